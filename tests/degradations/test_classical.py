"""Total variation and the Wiener filter by deepinv, on the workbench's measurements."""

import pytest
import torch

from workbench.core.config import UserError
from workbench.degradations import CT, MRI, Degradation, GaussianBlur, GaussianNoise, MotionBlurCRF, RandomInpainting
from workbench.degradations.classical import is_convolution, total_variation, wiener
from workbench.metrics import psnr

IDS = torch.arange(2)


def scene() -> torch.Tensor:
    """Two colour images of a disc on a ramp, (2, 3, 40, 52)."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 40), torch.linspace(-1.3, 1.3, 52), indexing="ij")
    disc = ((rows**2 + columns**2) < 0.4).float()
    image = torch.stack([0.2 + 0.5 * disc, 0.5 + 0.2 * rows, 0.7 - 0.4 * disc])
    return torch.stack([image, image.flip(2) ** 2])


@pytest.mark.parametrize(
    ("degradation", "strength"),
    [(GaussianBlur(), 0.5), (RandomInpainting(), 0.5), (GaussianNoise(), 1.0), (MRI(), 0.3), (CT(), 0.3)],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_total_variation_comes_closer_to_the_image(degradation: Degradation, strength: float) -> None:
    measurement = degradation.measure(scene(), torch.tensor([0.3, 0.6]), IDS, seed=0)
    x_hat = total_variation(degradation, measurement, strength)
    assert (psnr(x_hat, scene()) > psnr(measurement.encoder_input(), scene()) + 2).all()
    # each with its own parameters, whatever the batch
    alone = total_variation(degradation, measurement.take([1]), strength)
    torch.testing.assert_close(alone, x_hat[1:], atol=1e-3, rtol=0)


def test_a_constant_image_has_no_variation_to_remove() -> None:
    x = torch.full((1, 1, 24, 24), 0.4)
    measurement = GaussianBlur(noise_std=0.0).measure(x, torch.ones(1), IDS[:1], seed=0)
    torch.testing.assert_close(total_variation(GaussianBlur(), measurement, 1.0), x, atol=1e-3, rtol=0)


@pytest.mark.parametrize("degradation", [GaussianBlur(), GaussianNoise()], ids=lambda value: value.kind)
def test_the_wiener_filter_comes_closer_to_the_image(degradation: Degradation) -> None:
    measurement = degradation.measure(scene(), torch.tensor([0.3, 0.6]), IDS, seed=0)
    x_hat = wiener(degradation, measurement, 16.0)
    assert x_hat.shape == scene().shape
    assert (psnr(x_hat, scene()) > psnr(measurement.y, scene()) + 1).all()


def test_without_noise_the_wiener_filter_inverts_a_blur() -> None:
    measurement = GaussianBlur(noise_std=0.0).measure(scene(), torch.full((2,), 0.1), IDS, seed=0)
    x_hat = wiener(GaussianBlur(noise_std=0.0), measurement, 1e-3)
    inside = (..., slice(8, -8), slice(8, -8))  # the border of the measurement is not reflected
    assert float((x_hat - scene())[inside].abs().max()) < 0.02


def test_other_operators_are_refused() -> None:
    measurement = MotionBlurCRF().measure(scene(), torch.tensor([0.3, 0.6]), IDS, seed=0)
    with pytest.raises(UserError, match="motion_blur_crf is not"):
        total_variation(MotionBlurCRF(), measurement, 1.0)
    assert not is_convolution(RandomInpainting())
    with pytest.raises(UserError, match="motion_blur_crf is none"):
        wiener(MotionBlurCRF(), measurement, 1.0)
