"""Lossy compression."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from tests.degradations.test_every_degradation import image_ids, measure, psnr, shapes
from workbench.degradations import JPEG
from workbench.degradations.jpeg import differentiable_jpeg, through_file


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [95, 75, 50, 25, 5])
def test_the_differentiable_codec_agrees_with_the_file(channels: int, quality: int) -> None:
    x = shapes(16, channels, size=48)
    level = torch.full((16,), float(quality))
    file = through_file(x, level)
    gap, loss = psnr(differentiable_jpeg(x, level) - file), psnr(file - x)
    assert gap > max(30, loss + 4), f"{gap:.1f} dB apart, the file is {loss:.1f} dB from the image"


def test_y_is_what_a_reader_of_the_file_sees() -> None:
    x = shapes(2, 3)
    y = JPEG(noise_std=0.0).A(x, {"quality": torch.tensor([30.0, 80.0])})
    for i, quality in enumerate([30, 80]):
        file = io.BytesIO()
        Image.fromarray((x[i] * 255).round().byte().permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        expected = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255
        torch.testing.assert_close(y[i], expected)


def test_the_gradient_is_the_differentiable_codec_s() -> None:
    x, level = shapes(3), torch.tensor([90.0, 40.0, 10.0])
    weights = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    gradients = []
    for codec in (lambda image: JPEG().A(image, {"quality": level}), lambda image: differentiable_jpeg(image, level)):
        image = x.clone().requires_grad_(True)
        (codec(image) * weights).sum().backward()
        assert image.grad is not None
        gradients.append(image.grad)
    torch.testing.assert_close(*gradients)
    assert float(gradients[0].abs().sum()) > 0


def test_descending_the_residual_approaches_the_image() -> None:
    x = shapes(8)
    measurement = measure(JPEG(noise_std=0.0), x, 0.5)
    guess = torch.full_like(x, 0.5)
    before = psnr(guess - x)
    for _ in range(200):
        guess.requires_grad_(True)
        misfit = measurement.residual(JPEG().A(guess, measurement.params)).square().sum()
        (gradient,) = torch.autograd.grad(misfit, guess)
        guess = (guess - 0.5 * gradient).detach().clamp(0, 1)
    assert psnr(guess - x) > before + 5


def test_other_numbers_of_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="1 or 3 channels"):
        JPEG().A(torch.rand(1, 2, 8, 8), {"quality": torch.tensor([50.0])})


def test_quality_is_a_whole_number() -> None:
    params = JPEG().parameters(torch.rand(50), image_ids(50), 0, (1, 8, 8))
    assert bool((params["quality"] == params["quality"].round()).all())
