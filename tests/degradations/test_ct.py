"""Tomography in closed form: views, rays, the filtered back-projection, photon counts, and a user's sinogram."""

import math

import pytest
import torch
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.degradations import CT
from workbench.degradations.ct import angles_per_view

NUM = 4
IDS = torch.arange(NUM)
SIDE = 48


def disc(radius: float, height: int = SIDE, width: int = SIDE) -> Tensor:
    """A disc of value 0.5 in the middle, radius in pixels, with smooth edges."""
    rows, columns = torch.meshgrid(
        torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij"
    )
    return (0.5 * (radius + 0.5 - torch.hypot(rows, columns)).clamp(0, 1))[None, None].expand(NUM, 1, -1, -1)


def views(severity: float, operator: CT | None = None) -> Tensor:
    operator = operator or CT()
    return operator.parameters(torch.full((NUM,), severity), IDS, 0, (1, SIDE, SIDE))["views"][0] == 1


def test_rays_through_a_disc_are_its_chords() -> None:
    radius = 12.0
    y = CT(noise_std=0).measure(disc(radius), torch.zeros(NUM), IDS, 0).y
    assert y.shape == (NUM, 1, math.ceil(math.sqrt(2) * SIDE), 120)
    at = torch.arange(y.shape[2]) - (y.shape[2] - 1) / 2
    chords = 2 * 0.5 * (radius**2 - at.square()).clamp(min=0).sqrt() / SIDE
    assert (y[0, 0] - chords[:, None]).abs().max() < 0.02
    assert (y[0, 0] - chords[:, None]).abs().mean() < 0.002


def test_views_fall_by_a_factor_and_stay_apart() -> None:
    for severity, number, widest in ((0.0, 120, 1), (0.5, 38, 4), (1.0, 12, 15)):
        kept = views(severity).nonzero().flatten()
        assert len(kept) == number
        gaps = torch.cat([kept, kept[:1] + 120]).diff()
        assert gaps.max() <= widest
    for operator in (CT(), CT(left_out="limited")):
        before = views(0.0, operator)
        for severity in torch.linspace(0.05, 1, 20).tolist():
            now = views(severity, operator)
            assert (before | ~now).all(), "views of a severity are those of a lower one"
            before = now
    assert views(1.0, CT(left_out="limited")).nonzero().flatten().tolist() == list(range(12))


def test_back_projections_weigh_views_by_the_angle_that_they_stand_for() -> None:
    kept = torch.zeros(3, 12)
    kept[0, ::3] = 1
    kept[1, :5] = 1  # the wedge beyond is not filled by its neighbours
    kept[2] = 1
    expected = torch.zeros(3, 12)
    expected[0, ::3] = 3
    expected[1, :5] = 1
    expected[2] = 1
    assert torch.equal(angles_per_view(kept), expected)
    one = torch.zeros(1, 12)
    one[0, 4] = 1
    assert angles_per_view(one)[0, 4] == 12


@pytest.mark.parametrize("size", [(SIDE, SIDE), (40, 48), (48, 33)])
def test_the_filtered_back_projection_is_the_image(size: tuple[int, int]) -> None:
    x = disc(12, *size)
    m = CT(noise_std=0).measure(x, torch.tensor([0.0, 0.3, 0.6, 1.0]), IDS, 0)
    assert m.encoder_input().shape == x.shape
    error = (m.encoder_input() - x).flatten(1).square().mean(1).sqrt()
    assert error[0] < 0.03
    assert error[0] < error[3] < 0.2
    # its level, too
    assert m.encoder_input()[0, 0, size[0] // 2, size[1] // 2] == pytest.approx(0.5, abs=0.02)


def test_counts_make_white_noise_of_the_stated_level() -> None:
    operator = CT(noise="log_poisson", photons=1000.0)
    x = disc(16)
    m = operator.measure(x, torch.linspace(0, 1, NUM), IDS, 0)
    assert torch.allclose(m.noise_std, torch.tensor(1 / (4 * math.sqrt(1000))))
    noise = m.residual(operator.A(x, m.params)) / m.noise_std[:, None, None, None]
    seen = m.observed.expand_as(noise) > 0
    air = operator.A(x, m.params) == 0
    for rays in (seen & air, seen & ~air):
        assert noise[rays].square().mean() == pytest.approx(1, abs=0.06)
    weight = m.params["weight"]
    assert weight[:, :, SIDE // 2].mean() < 0.9 * weight[:, :, 0].mean(), "fewer photons pass the middle"
    again = operator.measure(x[2:], torch.linspace(0, 1, NUM)[2:], IDS[2:], 0)
    assert torch.equal(again.y, m.y[2:])
    with pytest.raises(ValueError, match="photons set the level of the noise"):
        CT(noise="log_poisson", noise_std=0.1)


@pytest.mark.parametrize("operator", [CT(), CT(noise="log_poisson")], ids=["gaussian", "log_poisson"])
def test_the_adjoint_with_weights(operator: CT) -> None:
    x = randomness.normal(IDS, ("x",), (2, 20, 30))
    m = operator.measure(x.abs().clamp(0, 1), torch.linspace(0, 1, NUM), IDS, 0)
    forward = operator.A(x, m.params)
    y = randomness.normal(IDS, ("y",), tuple(forward.shape[1:]))
    torch.testing.assert_close((forward * y).sum(), (x * operator.A_adjoint(y, m.params)).sum(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("num_views", [10, 50, 90, 120, 180, 360])
def test_sparse_views_stand_for_all_angles(num_views: int) -> None:
    severity = torch.linspace(0, 1, 40)
    kept = CT(num_views=num_views).parameters(severity, torch.arange(40), 0, (1, 8, 8))["views"]
    assert torch.allclose(angles_per_view(kept).sum(1), torch.tensor(float(num_views)))


def test_a_users_counts_are_weighted() -> None:
    operator, half = CT(noise="log_poisson", photons=1000.0), torch.full((NUM,), 0.5)
    m = operator.measure(disc(12), half, IDS, 0)
    raw = m.y / m.params["weight"]
    taken, _ = operator.given_parameters({"views": m.params["views"]}, (1, SIDE, SIDE))
    given, _ = operator.given_measurement(raw, half, IDS, taken)
    torch.testing.assert_close(given.y, m.y, rtol=1e-4, atol=1e-6)
    seen = m.observed.expand_as(m.y) > 0
    torch.testing.assert_close(given.params["weight"][seen], m.params["weight"][seen], rtol=1e-4, atol=1e-6)
    with pytest.raises(UserError, match="views of ct measures none"):
        operator.given_parameters({"views": torch.zeros(NUM, 120)}, (1, SIDE, SIDE))


def test_a_users_sinogram() -> None:
    operator, half = CT(), torch.full((NUM,), 0.5)
    m = operator.measure(disc(12), half, IDS, 0)
    taken, lines = operator.given_parameters({"views": m.params["views"]}, (1, SIDE, SIDE))
    assert not lines
    given, lines = operator.given_measurement(m.y, half, IDS, taken)
    assert not lines
    torch.testing.assert_close(given.encoder_input(), m.encoder_input())
    with pytest.raises(UserError, match="y is not zero in the views that are left out"):
        operator.given_measurement(m.y, half, IDS, {**taken, "views": 1 - taken["views"]})
    with pytest.raises(UserError, match=r"expected images x channels x detectors x views: 68 x 120 for 48 x 48 images"):
        operator.given_measurement(m.y.mT, half, IDS, taken)
    with pytest.raises(UserError, match="expected whole numbers from 0 to 1"):
        operator.given_parameters({"views": 0.5 * m.params["views"]}, (1, SIDE, SIDE))
