import numpy as np
import pytest
import torch
from scipy import ndimage

from workbench.metrics import psnr, spectral_angle, ssim, ssim_columns, ssim_valid


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25


def test_psnr_of_a_known_error(x: torch.Tensor) -> None:
    offsets = torch.tensor([0.1, 0.01, 0.2]).view(3, 1, 1, 1)
    expected = -20 * torch.log10(offsets.flatten())
    assert torch.allclose(psnr(x + offsets, x), expected, atol=1e-3)


def test_psnr_is_per_image_and_equal_images_are_infinite(x: torch.Tensor) -> None:
    x_hat = x.clone()
    x_hat[1] += 0.1
    values = psnr(x_hat, x)
    assert values[0].isinf()
    assert values[2].isinf()
    assert values[1].item() == pytest.approx(20, abs=1e-3)


@pytest.mark.parametrize("metric", [psnr, ssim, ssim_valid])
def test_out_of_range_restorations_are_clamped(metric, x: torch.Tensor) -> None:
    wild = (x - 0.5) * 8
    assert torch.equal(metric(wild, x), metric(wild.clamp(0, 1), x))


@pytest.mark.parametrize("metric", [ssim, ssim_valid])
@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (2, 3, 32, 32), (5, 1, 64, 48)])
def test_ssim_gives_one_value_an_image(metric, shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    assert metric(x, x).shape == (shape[0],)
    assert torch.allclose(metric(x, x), torch.ones(shape[0]), atol=1e-5)


@pytest.mark.parametrize("metric", [ssim, ssim_valid])
def test_ssim_falls_with_noise_and_does_not_depend_on_the_batch(metric, x: torch.Tensor) -> None:
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    mild, strong = metric(x + 0.02 * noise, x), metric(x + 0.2 * noise, x)
    assert (mild > strong).all()
    assert torch.allclose(metric((x + 0.02 * noise)[1:2], x[1:2]), mild[1:2], atol=1e-6)


def by_hand(a: np.ndarray, b: np.ndarray, border: int) -> float:
    """Wang et al. 2004, eq. 13, with SciPy's Gaussian filter: the mean of all pixels `border` away from the edge."""

    def mean(values: np.ndarray) -> np.ndarray:
        # radius 5: windows of 11 pixels; SciPy's "mirror" is torch's "reflect"
        return ndimage.gaussian_filter(values, 1.5, mode="mirror", radius=5)

    mean_a, mean_b = mean(a), mean(b)
    covariance = mean(a * b) - mean_a * mean_b
    variances = mean(a * a) - mean_a**2 + mean(b * b) - mean_b**2
    similarity = (2 * mean_a * mean_b + 0.01**2) * (2 * covariance + 0.03**2)
    similarity /= (mean_a**2 + mean_b**2 + 0.01**2) * (variances + 0.03**2)
    return float(similarity[border : len(a) - border, border : a.shape[1] - border].mean())


def smooth_pair(channels: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An image of waves, and it darkened, blurred and noisy."""
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:height, :width] / 8
    x = np.stack([0.5 + 0.4 * np.sin(rows * (c + 1) + columns) * np.cos(columns - c) for c in range(channels)])
    x_hat = np.clip(0.9 * ndimage.gaussian_filter(x, (0, 1, 1)) + rng.normal(0, 0.05, x.shape), 0, 1)
    return torch.tensor(x_hat[None]).float(), torch.tensor(x[None]).float()


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 32, 32), (1, 11, 20), (3, 64, 48)])
def test_ssim_is_wang_et_als_with_borders_and_without(shape: tuple[int, int, int]) -> None:
    x_hat, x = smooth_pair(*shape)
    pairs = list(zip(x_hat[0].double().numpy(), x[0].double().numpy(), strict=True))
    for metric, border in ((ssim, 0), (ssim_valid, 5)):
        expected = np.mean([by_hand(a, b, border) for a, b in pairs])
        assert metric(x_hat, x).item() == pytest.approx(expected, abs=1e-4)
    assert abs(ssim(x_hat, x) - ssim_valid(x_hat, x)) > 1e-3


SCIKIT_IMAGE = {(1, 32, 32): 0.7087930, (3, 64, 48): 0.7874286}


def test_ssim_of_valid_windows_is_scikit_images() -> None:
    """structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1) of 0.26."""
    found = [ssim_valid(*smooth_pair(*shape)).item() for shape in SCIKIT_IMAGE]
    assert found == pytest.approx(list(SCIKIT_IMAGE.values()), abs=1e-4)


def test_ssim_of_valid_windows_asks_for_a_window() -> None:
    small = torch.rand(2, 1, 10, 32)
    with pytest.raises(ValueError, match=r"no window of 11 pixels per side fits into images of \(10, 32\)"):
        ssim_valid(small, small)
    assert list(ssim_columns(small, small)) == ["ssim"]
    large = torch.rand(2, 1, 11, 11)
    columns = ssim_columns(large, large.flip(0))
    assert torch.equal(columns["ssim"], ssim(large, large.flip(0)))
    assert torch.equal(columns["ssim_valid"], ssim_valid(large, large.flip(0)))


@pytest.mark.parametrize("metric", [psnr, ssim, ssim_valid])
def test_shapes_must_agree(metric, x: torch.Tensor) -> None:
    # the function's own error, or that of the shape checks where they are on
    with pytest.raises((ValueError, TypeError)):
        metric(x[:1], x)


def test_spectral_angles_are_those_between_pixels() -> None:
    x = torch.zeros(3, 4, 8, 8)
    x[:, 0] = 0.5
    x_hat = 0.6 * x
    x_hat[1, 1] = x_hat[1, 0]  # 45 degrees
    x_hat[2, :, :4] = 0  # black pixels have no spectrum
    assert torch.allclose(spectral_angle(x_hat, x), torch.tensor([0.0, 45.0, 0.0]), atol=0.05)
    assert spectral_angle(torch.zeros_like(x), x).isnan().all()
