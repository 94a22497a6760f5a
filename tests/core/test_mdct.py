"""The transform of waveforms to images, and back."""

import math

import pytest
import torch

from workbench.core import randomness
from workbench.core.mdct import inverse_mdct, mdct
from workbench.core.sound import BANDS, FRAMES, LARGEST, SAMPLE_RATE, SAMPLES, in_blocks, to_image, to_waveform


def waveforms(frames: int = FRAMES, bands: int = BANDS) -> torch.Tensor:
    return 2 * randomness.uniform(torch.arange(3), ("waveform",), (2, frames, bands)) - 1


# one frame overlaps itself, and an odd number of bands has a sample in the middle of each half
@pytest.mark.parametrize(("frames", "bands"), [(FRAMES, BANDS), (1, 8), (2, 8), (5, 3), (4, 1)])
def test_it_is_orthonormal_and_inverted_by_its_adjoint(frames: int, bands: int) -> None:
    blocks = waveforms(frames, bands)
    coefficients = mdct(blocks)
    assert coefficients.shape == (3, 2, bands, frames)
    torch.testing.assert_close(inverse_mdct(coefficients), blocks, rtol=0, atol=1e-5)
    torch.testing.assert_close(coefficients.flatten(1).norm(dim=1), blocks.flatten(1).norm(dim=1), rtol=1e-5, atol=0)
    other = mdct(blocks.flip(0))
    torch.testing.assert_close(
        (coefficients * other).flatten(1).sum(1), (blocks * blocks.flip(0)).flatten(1).sum(1), rtol=1e-5, atol=1e-3
    )


def test_rows_are_frequencies_and_columns_are_times() -> None:
    """A tone of a band's middle frequency is in its row; a click is in the two frames that overlap there."""
    band, seconds = 20, torch.arange(SAMPLES, dtype=torch.float64) / SAMPLE_RATE
    tone = (2 * math.pi * (band + 0.5) * SAMPLE_RATE / (2 * BANDS) * seconds).sin()
    energy = mdct(in_blocks(tone[None]))[0, 0].square().sum(1)
    assert energy.argmax() == band
    assert energy[band - 1 : band + 2].sum() > 0.95 * energy.sum()
    click = torch.zeros(1, 1, FRAMES, BANDS)
    click[..., 50, 10] = 1
    assert mdct(click)[0, 0].abs().amax(0).nonzero().flatten().tolist() == [49, 50]


def test_the_image_of_a_waveform_is_inverted() -> None:
    blocks = 0.2 * waveforms()
    images = to_image(blocks)
    assert images.shape == (3, 2, BANDS, FRAMES)
    torch.testing.assert_close(to_waveform(images), blocks, rtol=0, atol=1e-5)
    assert torch.equal(to_image(torch.zeros(1, 1, FRAMES, BANDS)), torch.full((1, 1, BANDS, FRAMES), 0.5))


def test_white_is_the_largest_coefficient() -> None:
    coefficients = torch.zeros(1, 1, BANDS, FRAMES)
    coefficients[..., 3, 7], coefficients[..., 4, 7], coefficients[..., 5, 7] = LARGEST, -LARGEST, LARGEST / 4
    image = to_image(inverse_mdct(coefficients))
    torch.testing.assert_close(image[0, 0, 3:6, 7], torch.tensor([1.0, 0.0, 0.75]), rtol=0, atol=1e-3)


def test_the_waveform_of_an_image_is_differentiable() -> None:
    images = 0.2 + 0.6 * randomness.uniform(torch.arange(2), ("images",), (1, 4, 3)).double()
    assert torch.autograd.gradcheck(to_waveform, images.requires_grad_())
    silent = torch.full((1, 1, 4, 3), 0.5, requires_grad=True)
    (gradient,) = torch.autograd.grad(to_waveform(silent).sum(), silent)
    assert gradient.isfinite().all()


def test_samples_that_fill_no_block_are_refused() -> None:
    assert in_blocks(torch.zeros(2, 128)).shape == (2, 1, 2, BANDS)
    with pytest.raises(ValueError, match="100 samples are no whole number of blocks of 64"):
        in_blocks(torch.zeros(2, 100))
