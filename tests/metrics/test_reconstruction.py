import pytest
import torch

from workbench.metrics import psnr, ssim


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


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_out_of_range_restorations_are_clamped(metric, x: torch.Tensor) -> None:
    wild = (x - 0.5) * 8
    assert torch.equal(metric(wild, x), metric(wild.clamp(0, 1), x))


@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (2, 3, 32, 32), (5, 1, 64, 48)])
def test_ssim_gives_one_value_an_image(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    assert ssim(x, x).shape == (shape[0],)
    assert torch.allclose(ssim(x, x), torch.ones(shape[0]), atol=1e-5)


def test_ssim_falls_with_noise_and_does_not_depend_on_the_batch(x: torch.Tensor) -> None:
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    mild, strong = ssim(x + 0.02 * noise, x), ssim(x + 0.2 * noise, x)
    assert (mild > strong).all()
    assert torch.allclose(ssim((x + 0.02 * noise)[1:2], x[1:2]), mild[1:2], atol=1e-6)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_shapes_must_agree(metric, x: torch.Tensor) -> None:
    # the function's own error, or that of the shape checks where they are on
    with pytest.raises((ValueError, TypeError)):
        metric(x[:1], x)
