"""What is special about the mixture."""

import math

import pytest
import torch
from torch import Tensor

from workbench.core.config import Config, UserError
from workbench.core.measurement import Measurement
from workbench.degradations import AnyDegradation, GaussianBlur, GaussianNoise, Mixture, RandomInpainting


class Holder(Config):
    degradation: AnyDegradation = GaussianBlur()


def batch(num_images: int = 24, channels: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.rand(num_images, channels, 16, 16, generator=torch.Generator().manual_seed(0))
    return x, torch.linspace(0, 1, num_images), torch.arange(num_images)


def test_members_are_drawn_alike() -> None:
    num_images = 1200
    params = Mixture().parameters(torch.rand(num_images), torch.arange(num_images), 0, (1, 2, 2))
    counts = params["member"].bincount(minlength=6)
    assert params["member"].dtype == torch.int64
    assert (counts - num_images / 6).abs().max() < 4 * math.sqrt(num_images * 5 / 36)


def test_another_seed_draws_other_members() -> None:
    _, severity, ids = batch()
    one, other = (Mixture().parameters(severity, ids, seed, (1, 16, 16))["member"] for seed in (0, 1))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_measured_as_by_its_member_alone(channels: int) -> None:
    x, severity, ids = batch(channels=channels)
    mixture = Mixture()
    mixed = mixture.measure(x, severity, ids, 4)
    for position, member in enumerate(mixture.members):
        group = (mixed.params["member"] == position).nonzero()[:, 0]
        assert len(group) > 0
        alone = member.measure(x[group], severity[group], ids[group], 4)
        part = mixed.take(group)
        torch.testing.assert_close(part.y, alone.y)
        torch.testing.assert_close(part.noise_std, alone.noise_std)
        torch.testing.assert_close(mixture.A(x[group], part.params), member.A(x[group], alone.params))
        observed = torch.ones(len(group), 1, 16, 16) if alone.observed is None else alone.observed
        torch.testing.assert_close(part.observed, observed)


def test_batches_that_lack_a_member_can_be_joined() -> None:
    x, severity, ids = batch()
    mixed = Mixture().measure(x, severity, ids, 4)
    member = mixed.params["member"]
    order = torch.cat([(member == position).nonzero()[:, 0] for position in range(6)])
    alone = [Mixture().measure(x[member == p], severity[member == p], ids[member == p], 4) for p in range(6)]
    joined = Measurement.cat(alone)
    torch.testing.assert_close(joined.y, mixed.y[order])
    torch.testing.assert_close(Mixture().A(x[order], joined.params), Mixture().A(x, mixed.params)[order])


def test_parameters_of_other_members_are_zero() -> None:
    _, severity, ids = batch()
    params = Mixture().parameters(severity, ids, 4, (1, 16, 16))
    blurred = params["member"] == 0
    assert set(params) == {
        "member",
        "gaussian_blur.filter",
        "random_inpainting.mask",
        "motion_blur_crf.filter",
        "motion_blur_crf.gain",
        "super_resolution.size",
        "super_resolution.rows",
        "super_resolution.columns",
        "jpeg.quality",
    }
    torch.testing.assert_close(params["gaussian_blur.filter"].sum((1, 2, 3)), blurred.float())


def test_without_inpainting_everything_is_observed() -> None:
    x, severity, ids = batch()
    assert Mixture(members=(GaussianBlur(), GaussianNoise())).measure(x, severity, ids, 0).observed is None


def test_one_noise_std_for_all_members() -> None:
    mixture = Mixture(noise_std=0.02)
    assert {member.noise_std for member in mixture.members} == {0.02}
    assert {member.noise_std for member in mixture.replace(noise_std=0.1).members} == {0.1}
    assert Mixture(members=(GaussianBlur(noise_std=0.3),)) == Mixture(members=(GaussianBlur(),))


def test_noise_level_needs_to_know_the_members() -> None:
    with pytest.raises(ValueError, match="params"):
        Mixture().noise_level(torch.zeros(2))


def test_reached_by_dotted_overrides() -> None:
    holder = Holder().replace({"degradation.kind": "mixture", "degradation.noise_std": 0.1})
    assert holder.degradation == Mixture(noise_std=0.1)
    two = Holder().replace(
        {
            "degradation.kind": "mixture",
            "degradation.members": [{"kind": "gaussian_blur"}, {"kind": "random_inpainting"}],
        }
    )
    assert two.degradation == Mixture(members=(GaussianBlur(), RandomInpainting()))
    assert two.identity != Holder().replace({"degradation.kind": "mixture"}).identity


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"members": [{"kind": "gaussian_blur"}, {"kind": "gaussian_blur"}]}, "once"),
        ({"members": []}, "members"),
        ({"members": [{"kind": "mixture"}]}, "mixture"),
        ({"noise_std": 0.7}, "noise_std"),
        ({"noise_std": 7}, "noise_std"),
    ],
)
def test_mixtures_that_make_no_sense_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        Mixture.parse(fields)
    assert "\n" not in str(refusal.value)


def test_label_says_what_is_left_out() -> None:
    members = Mixture().members
    assert Mixture().label == "mixture"
    assert Mixture(members=tuple(m for m in members if m.kind != "jpeg")).label == "all but jpeg"
    assert Mixture(members=members[:4]).label == "mixture of 4"
    assert Mixture(members=(GaussianBlur(), GaussianNoise())).label == "gaussian_blur + gaussian_noise"
