"""Recalibration on variances whose truth is known: closed forms, optimality, and what each method cannot mend."""

import math

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from workbench.core.config import UserError, members
from workbench.severity.calibration.recalibration import (
    AnyRecalibration,
    Factor,
    Isotonic,
    LogMap,
    Method,
    Recalibration,
    Temperature,
    Unchanged,
    channel_error_variance,
)
from workbench.severity.estimate import error_variance

NUM_IMAGES = 4000
NUM_ELEMENTS = 512
EVERY = [member() for member in members(AnyRecalibration)]
FITTED = [Factor(), Temperature(), Isotonic()]

every = pytest.mark.parametrize("method", EVERY, ids=lambda method: method.kind)


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(scale: float = 1.0, slope: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """(true variance, var_hat, s2): an encoder whose log var_hat is off by a factor and a slope.

    s2 is the variance of `NUM_ELEMENTS` normal elements of the true variance.
    """
    true = (-4 + 3 * torch.rand(NUM_IMAGES, generator=random(seed))).exp()
    elements = torch.randn(NUM_IMAGES, NUM_ELEMENTS, generator=random(seed + 1))
    return true, scale * true**slope, true * elements.var(1)


def nll(v: Tensor, s2: Tensor) -> float:
    """Twice the Gaussian negative log-likelihood per element."""
    return float((s2 / v + v.log()).mean())


def by_severity(v: Tensor, s2: Tensor, true: Tensor) -> list[float]:
    """Mean s2 / v in five bins of the true variance."""
    return [float((s2 / v)[part].mean()) for part in true.argsort().chunk(5)]


# closed forms


def test_the_best_factor_is_the_mean_ratio() -> None:
    var_hat, s2 = torch.tensor([0.1, 0.2, 0.4, 0.8] * 2), torch.tensor([0.1, 0.6, 0.4, 4.0] * 2)
    v = Factor().fit(var_hat, s2)(var_hat)
    torch.testing.assert_close(v, var_hat * (1 + 3 + 1 + 5) / 4)
    for other in (0.97, 1.03):
        assert nll(other * v, s2) > nll(v, s2)


@pytest.mark.parametrize(("scale", "slope"), [(1.0, 1.0), (0.3, 1.0), (2.0, 0.5), (0.7, 2.5)])
def test_temperature_finds_a_power_law(scale: float, slope: float) -> None:
    var_hat = torch.logspace(-3, 0, 50)
    s2 = scale * var_hat**slope
    fitted = Temperature().fit(var_hat, s2)
    assert fitted.slope == pytest.approx(slope, abs=1e-4)
    torch.testing.assert_close(fitted(var_hat), s2, rtol=1e-4, atol=0)


def test_temperature_is_the_likeliest_of_all_lines() -> None:
    _, var_hat, s2 = images(2.0, 0.6)
    v = Temperature().fit(var_hat, s2)(var_hat)
    for slope, offset in [(0.01, 0.0), (-0.01, 0.0), (0.0, 0.01), (0.0, -0.01), (0.01, 0.02), (-0.01, -0.02)]:
        assert nll(v * var_hat**slope * math.exp(offset), s2) > nll(v, s2)


def test_temperature_never_turns_the_order_round() -> None:
    var_hat = torch.logspace(-3, 0, 50)
    s2 = 1e-3 / var_hat
    torch.testing.assert_close(
        Temperature().fit(var_hat, s2)(var_hat), torch.full((50,), float(s2.mean())), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("method", [Factor(), Temperature(), Isotonic()], ids=lambda method: method.kind)
def test_one_answer_for_all_images_becomes_their_mean_error(method: Method) -> None:
    s2 = torch.linspace(0.1, 0.4, 10)
    fitted = method.fit(torch.full((10,), 0.1), s2)
    torch.testing.assert_close(fitted(torch.tensor([0.1, 0.2])), torch.tensor([0.25, 0.5]))


def test_isotonic_pools_what_is_out_of_order() -> None:
    var_hat = 2 ** torch.arange(8.0)
    s2 = torch.tensor([1.5, 0.5, 5.0, 3.0, 9.0, 7.0, 30.0, 10.0])
    fitted = Isotonic().fit(var_hat, s2)
    blocks = {2**0.5: 1.0, 2**2.5: 4.0, 2**4.5: 8.0, 2**6.5: 20.0}
    torch.testing.assert_close(fitted(torch.tensor(list(blocks))), torch.tensor(list(blocks.values())))
    between = fitted(torch.tensor([2**1.5]))  # halfway in logs between the first two knots
    torch.testing.assert_close(between, torch.tensor([2.0]))


@pytest.mark.parametrize(("num_images", "at_end"), [(8, 2), (79, 19), (80, 20), (1000, 20)])
def test_isotonic_takes_the_images_at_either_end_together(num_images: int, at_end: int) -> None:
    var_hat = torch.logspace(-3, 0, num_images, dtype=torch.float64)
    mixed = torch.randperm(num_images, generator=random(4))
    fitted = Isotonic().fit(var_hat[mixed], var_hat[mixed])
    assert len(fitted.x) == num_images - 2 * (at_end - 1), "ascending as they are, the others stay by themselves"
    for place, end in ((0, var_hat[:at_end]), (-1, var_hat[-at_end:])):
        assert fitted.x[place] == pytest.approx(float(end.log().mean()))
        assert fitted.y[place] == pytest.approx(float(end.mean().log()))


def test_a_right_encoder_is_left_alone_at_the_ends_too() -> None:
    """s2 scatters by 40 % about variances that are right; without pooled ends the mean ratios are 0.77 and 1.25."""
    ratios = []
    for seed in range(40):
        var_hat, scatter = (-4 + 3 * torch.rand(2000, generator=random(seed))).exp(), random(1000 + seed)
        s2 = var_hat * (0.4 * torch.randn(2000, generator=scatter) - 0.08).exp()
        ends = torch.stack([var_hat.min(), var_hat.max()])
        ratios.append(Isotonic().fit(var_hat, s2)(ends) / ends)
    found = torch.stack(ratios)
    assert found.mean(0).tolist() == pytest.approx([1, 1], abs=0.12)
    assert found.min() > 0.6
    assert found.max() < 1.6


def test_isotonic_is_the_likeliest_increasing_function() -> None:
    """Pooled means of s2 against a general optimiser of the Gaussian likelihood under the same constraint.

    The three images at either end have one variance.
    """
    from scipy.optimize import minimize

    _, var_hat, s2 = (values[:12].double() for values in images())
    var_hat, order = var_hat.sort()
    s2 = s2[order] * torch.rand(12, generator=random(7))
    blocks = Isotonic().fit(var_hat, s2)
    num = np.array([3, 1, 1, 1, 1, 1, 1, 3])
    found = minimize(
        lambda log_v: np.mean(s2.numpy() * np.exp(-log_v.repeat(num)) + log_v.repeat(num)),
        s2.log().sort().values[2:-2].numpy(),
        constraints={"type": "ineq", "fun": np.diff},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    np.testing.assert_allclose(np.unique(found.x.round(3)), np.round(blocks.y, 3), atol=2e-3)


def test_isotonic_takes_images_of_one_var_hat_together() -> None:
    var_hat = torch.tensor([0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2])
    s2 = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.7, 0.5, 0.6, 0.6])
    torch.testing.assert_close(Isotonic().fit(var_hat, s2)(torch.tensor([0.1, 0.2])), torch.tensor([0.25, 0.6]))


def test_beyond_what_was_seen_the_nearest_ratio_goes_on() -> None:
    fitted = LogMap(x=(math.log(0.1), math.log(0.2)), y=(math.log(0.2), math.log(0.3)))
    torch.testing.assert_close(fitted(torch.tensor([0.01, 2.0])), torch.tensor([0.02, 3.0]))


# what they mend


@every
def test_a_right_encoder_is_left_alone(method: Method) -> None:
    _, var_hat, s2 = images()
    true, other, unseen = images(seed=10)
    v = method.fit(var_hat, s2)(other)
    assert by_severity(v, unseen, true) == pytest.approx([1] * 5, abs=0.02)
    assert float((v / true).log().abs().max()) < 0.2


@pytest.mark.parametrize("method", FITTED, ids=lambda method: method.kind)
def test_a_wrong_factor_is_mended_on_images_that_were_not_seen(method: Method) -> None:
    _, var_hat, s2 = images(0.25)
    true, other, unseen = images(0.25, seed=10)
    assert by_severity(method.fit(var_hat, s2)(other), unseen, true) == pytest.approx([1] * 5, abs=0.03)


@pytest.mark.parametrize("method", [Temperature(), Isotonic()], ids=lambda method: method.kind)
def test_a_wrong_slope_is_mended_by_what_has_one(method: Method) -> None:
    _, var_hat, s2 = images(2.0, 0.5)
    true, other, unseen = images(2.0, 0.5, seed=10)
    assert by_severity(method.fit(var_hat, s2)(other), unseen, true) == pytest.approx([1] * 5, abs=0.03)
    off = by_severity(Factor().fit(var_hat, s2)(other), unseen, true)
    assert off[0] < 0.6, "one factor is right on average alone"
    assert off[-1] > 1.5


@every
def test_the_map_never_decreases(method: Method) -> None:
    _, var_hat, s2 = images()
    shuffled = s2[torch.randperm(NUM_IMAGES, generator=random(3))]
    v = method.fit(var_hat, shuffled)(torch.logspace(-4, 1, 300))
    assert (v.diff() >= 0).all()


# what is fitted with it


def fitted(method: Method, scale: float = 0.5) -> Recalibration:
    _, var_hat, s2 = images(scale)
    return Recalibration.fit(method, var_hat, s2, torch.tensor([[0.5, 1.0, 1.5]]).expand(NUM_IMAGES, 3) * s2[:, None])


@every
def test_the_bound_is_a_quantile_of_images_that_the_map_has_not_seen(method: Method) -> None:
    recalibration = fitted(method)
    _, var_hat, s2 = images(0.5)
    assert len(recalibration.scores) == NUM_IMAGES // 2
    assert recalibration.log_map == method.fit(var_hat[::2], s2[::2])
    expected = (s2[1::2] / recalibration.apply(var_hat[1::2])).sort().values
    # the ceil(2001 x 0.9)-th smallest
    ratio = recalibration.bound(var_hat, 0.1) / recalibration.apply(var_hat)
    torch.testing.assert_close(ratio, expected[1800].expand(NUM_IMAGES), rtol=1e-5, atol=0)


def test_less_risk_is_a_larger_bound() -> None:
    recalibration = fitted(Isotonic())
    v = torch.tensor([0.1])
    bounds = [float(recalibration.bound(v, risk)) for risk in (0.01, 0.05, 0.1, 0.5, 0.9)]
    assert bounds == sorted(bounds, reverse=True)
    assert float(recalibration.bound(v, 0.5)) == pytest.approx(float(recalibration.apply(v)), rel=0.02)


def test_a_channels_profile_is_the_mean_over_images_of_its_share() -> None:
    assert fitted(Factor()).channel_profile == pytest.approx((0.5, 1.0, 1.5))
    severe = torch.tensor([[3.0, 1.0], [300.0, 300.0]]).repeat(8, 1)  # the second is larger and counts as much
    ones = torch.rand(16, generator=random(0)) + 0.1
    assert Recalibration.fit(Unchanged(), ones, ones, severe).channel_profile == pytest.approx((1.25, 0.75))


def test_channel_variances_average_to_s2() -> None:
    scale = torch.tensor([0.5, 1.0, 2.0]).reshape(1, 3, 1, 1)
    z0 = torch.randn(4, 3, 64, 64, generator=random(1))
    z_hat = z0 + 0.7 + scale * torch.randn(4, 3, 64, 64, generator=random(2))
    found = channel_error_variance(z_hat, z0)
    torch.testing.assert_close(found, scale.square().flatten().expand(4, 3), rtol=0.1, atol=0)
    torch.testing.assert_close(found.mean(1), error_variance(z_hat, z0), rtol=1e-3, atol=0)


@every
def test_a_file_gives_it_back(method: Method) -> None:
    recalibration = fitted(method)
    assert Recalibration.model_validate_json(recalibration.model_dump_json()) == recalibration
    assert TypeAdapter(AnyRecalibration).validate_python({"kind": method.kind}) == method


# bad input


@pytest.mark.parametrize("value", [0.0, -0.1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["var_hat", "s2"])
def test_variances_that_are_none_are_refused(name: str, value: float) -> None:
    good = torch.full((8,), 0.1)
    bad = torch.tensor([0.1] * 7 + [value])
    given = {"var_hat": good, "s2": good} | {name: bad}
    with pytest.raises(UserError, match=f"{name} must be positive and finite"):
        Factor().fit(**given)


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 7], ids=["of the map", "of the scores"])
@pytest.mark.parametrize("name", ["var_hat", "s2"])
def test_every_image_is_looked_at(name: str, place: int, value: float) -> None:
    given = {"var_hat": torch.full((16,), 0.1), "s2": torch.full((16,), 0.1)}
    given[name][place] = value
    with pytest.raises(UserError, match=rf"{name} must be .* 1 of 16 images is not: train the severity encoder longer"):
        Recalibration.fit(Isotonic(), **given, channel_variance=torch.ones(16, 2))


def test_a_handful_of_images_is_refused() -> None:
    with pytest.raises(UserError, match="at least 8 images, got 7"):
        Factor().fit(torch.full((7,), 0.1), torch.full((7,), 0.1))


def test_a_map_without_knots_is_refused() -> None:
    with pytest.raises(UserError, match="x"):
        LogMap.parse({"x": (), "y": ()})
