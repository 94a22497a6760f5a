"""The level of noise: estimated, stated, doubted."""

import numpy as np
import pytest
import torch

from workbench.core.config import UserError
from workbench.degradations import GaussianBlur, GaussianNoise, RandomInpainting
from workbench.experiments.restore.noise import check_stated, doubt, estimate_noise, read_noise_std

IDS = torch.arange(8)


@pytest.fixture(scope="module")
def smooth() -> torch.Tensor:
    """Eight images of soft edges, (8, 1, 32, 32)."""
    offset = torch.linspace(-1, 1, 32)
    return torch.stack(
        [torch.sigmoid(4 * (torch.cos(k + offset[:, None] * 3) + offset * (k - 4) / 4))[None] for k in range(8)]
    )


@pytest.mark.parametrize("noise_std", [0.02, 0.05, 0.2])
def test_the_noise_is_found_beneath_an_operator(smooth: torch.Tensor, noise_std: float) -> None:
    for operator, severity in ((GaussianBlur, 0.5), (RandomInpainting, 0.5)):
        measurement = operator(noise_std=noise_std).measure(smooth, torch.full((8,), severity), IDS, seed=0)
        found = estimate_noise([(measurement.y, measurement.observed)])
        assert found == pytest.approx(noise_std, rel=0.15)


def test_dropped_pixels_do_not_count(smooth: torch.Tensor) -> None:
    measurement = RandomInpainting().measure(smooth, torch.full((8,), 0.5), IDS, seed=0)
    found, wrong = estimate_noise([(measurement.y, measurement.observed)]), estimate_noise([(measurement.y, None)])
    assert found == pytest.approx(0.05, rel=0.15)
    assert wrong is not None
    assert wrong > 1.5 * 0.05
    few = torch.zeros_like(smooth)
    few[:, :, ::2, ::2] = 1
    assert estimate_noise([(measurement.y, few)]) is None, "no four neighbours are observed"


def test_images_of_several_sizes_count_together(smooth: torch.Tensor) -> None:
    """As many as there are pixels: the smaller images do not decide."""
    noise = torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    large, small = smooth + 0.1 * noise, smooth[..., :8, :8]
    assert estimate_noise([(large, None), (small, None)]) == pytest.approx(0.1, rel=0.15)
    assert estimate_noise([(large[..., :8, :8], None), (smooth, None)]) < 0.02  # type: ignore[operator]


@pytest.mark.parametrize(("text", "value"), [(None, None), ("auto", "auto"), ("0", 0.0), ("0.1", 0.1), ("1e-2", 0.01)])
def test_a_level_is_a_number_or_auto(text: str | None, value: object) -> None:
    assert read_noise_std(text) == value


@pytest.mark.parametrize("text", ["", "-0.1", "12", "nan", "inf", "automatic", "0,1"])
def test_other_levels_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="must be a standard deviation on"):
        read_noise_std(text)


def test_the_severity_of_noise_is_its_level() -> None:
    check_stated(GaussianNoise(), 1.0, 0.5, estimated=False)
    check_stated(GaussianBlur(), 1.0, 0.2, estimated=False)
    check_stated(GaussianNoise(), 1.0, 0.4, estimated=True)
    with pytest.raises(UserError, match=r"0\.2, but .* at severity 1 has noise of 0\.5: use --severity 0\.333 without"):
        check_stated(GaussianNoise(), 1.0, 0.2, estimated=False)
    with pytest.raises(UserError, match=r"auto: the images look like noise of 0\.2, "):
        check_stated(GaussianNoise(), 1.0, 0.2, estimated=True)
    with pytest.raises(UserError, match=r"severity 0 to 1 is 0\.05 to 0\.5"):
        check_stated(GaussianNoise(), 1.0, 0.01, estimated=False)


@pytest.mark.parametrize("estimate", [None, 0.03, 0.05, 0.09])
def test_an_estimate_within_a_factor_of_two_is_silent(estimate: float | None) -> None:
    assert doubt(estimate, torch.full((3,), 0.05)) is None


@pytest.mark.parametrize(("estimate", "level"), [(0.01, 0.05), (0.0, 0.05), (0.11, 0.05), (0.05, 0.0)])
def test_an_estimate_far_off_is_a_line(estimate: float, level: float) -> None:
    line = doubt(estimate, torch.full((3,), level))
    assert line is not None
    assert f"look like noise of {estimate:.2g}, not {level:.2g}" in line
    assert "--noise-std" in line


def test_texture_of_clean_pictures_is_no_doubt() -> None:
    assert doubt(0.015, torch.zeros(3)) is None
    rough = torch.from_numpy(np.random.default_rng(0).normal(0, 0.019, (1, 1, 32, 32))).float()
    assert doubt(estimate_noise([(rough, None)]), torch.full((1,), 0.02)) is None
