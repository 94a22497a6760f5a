"""What is special about haze."""

import pytest
import torch

from workbench.degradations import Haze


def params(severity: float, num_images: int = 64, size: int = 32) -> dict[str, torch.Tensor]:
    levels = torch.full((num_images,), severity, dtype=torch.float64)
    return dict(Haze().parameters(levels, torch.arange(num_images), 0, (1, size, size)))


@pytest.mark.parametrize("channels", [1, 3])
def test_light_is_dimmed_exponentially_and_replaced_by_airlight(channels: int) -> None:
    x = torch.rand(64, channels, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = params(0.7)
    transmission = torch.exp(-1.4 * given["depth"])
    torch.testing.assert_close(Haze().A(x, given), transmission * x + (1 - transmission) * given["airlight"])


def test_the_airlight_itself_stays() -> None:
    given = params(1.0)
    flat = given["airlight"].expand(-1, 1, 32, 32)
    torch.testing.assert_close(Haze().A(flat, given), flat)


def test_depth_recedes_to_the_top_and_is_1_on_average() -> None:
    depth = params(0.5, num_images=400)["depth"]
    assert depth.mean().item() == pytest.approx(1, abs=0.02)
    assert depth.min() >= 0.1
    rows = depth.mean((0, 1, 3))
    assert rows[0] == pytest.approx(1.5, abs=0.05)
    assert rows[-1] == pytest.approx(0.5, abs=0.05)
    assert (rows.diff() < 0).all()
    # smooth: neighbours differ by far less than distant pixels
    assert depth.diff(dim=3).std() < 0.3 * (depth - depth.flip(3)).std()


def test_airlight_is_bright_and_differs() -> None:
    airlight = params(0.5, num_images=400)["airlight"]
    assert 0.7 <= airlight.min() < 0.72
    assert 0.98 < airlight.max() <= 1


def test_contrast_falls_to_a_seventh_at_mean_depth_and_a_twentieth_at_the_horizon() -> None:
    given = params(1.0)
    for depth, contrast in ((1.0, 0.135), (1.5, 0.05)):
        given["depth"] = torch.full((64, 1, 32, 32), depth, dtype=torch.float64)
        white, black = (Haze().A(torch.full((64, 1, 32, 32), v, dtype=torch.float64), given) for v in (1.0, 0.0))
        torch.testing.assert_close(white - black, torch.full_like(white, contrast), atol=1e-3, rtol=0)
