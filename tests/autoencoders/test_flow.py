"""A flow is invertible, and its log-determinant is that of its Jacobian."""

import math

import pytest
import torch
from torch import Tensor, nn

from workbench.autoencoders import Flow
from workbench.autoencoders.flow import GREY_LEVEL, FlowAutoencoder
from workbench.core import randomness
from workbench.degradations import GaussianBlur

levels = pytest.mark.parametrize("num_levels", [1, 2, 3])


def build(num_levels: int = 2, channels: int = 1, spread: float = 0.2) -> FlowAutoencoder:
    """A flow whose every weight has left its beginning."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder = Flow(num_levels=num_levels, num_steps=2, width=8).build(channels).eval()
        with torch.no_grad():
            for parameter in autoencoder.parameters():
                parameter.add_(spread * torch.randn_like(parameter) / math.sqrt(max(1, parameter[0].numel())))
    return autoencoder


def images(num: int = 3, channels: int = 1, size: int = 8) -> Tensor:
    return randomness.uniform(torch.arange(num), ("flow",), (channels, size, size))


@levels
@pytest.mark.parametrize("channels", [1, 3])
def test_decoding_inverts_encoding(num_levels: int, channels: int) -> None:
    autoencoder, x = build(num_levels, channels), images(4, channels, size=16)
    autoencoder.normalise(1.7, -0.3)
    with torch.no_grad():
        z = autoencoder.encode(x)
        assert z[0].numel() == x[0].numel()
        assert z.shape[1:] == (channels * 4**num_levels, 16 // 2**num_levels, 16 // 2**num_levels)
        torch.testing.assert_close(autoencoder.decode(z), x, rtol=0, atol=1e-5)
        z = z + torch.randn(z.shape, generator=randomness.generator("elsewhere"))
        torch.testing.assert_close(autoencoder.encode(autoencoder.decode(z)), z, rtol=0, atol=1e-4)


def test_it_is_inverted_in_any_memory_format() -> None:
    autoencoder = build(2, 3).to(memory_format=torch.channels_last)
    x = images(2, 3).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(autoencoder.decode(autoencoder.encode(x)), x, rtol=0, atol=1e-5)


@levels
def test_the_log_determinant_is_that_of_the_jacobian(num_levels: int) -> None:
    model, x = build(num_levels).model.double(), images(2).double()
    log_det = model.transform(x)[1]
    for image, stated in zip(x, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda flat: model.transform(flat.reshape(1, 1, 8, 8))[0], image)
        size = image.numel()
        assert float(stated) == pytest.approx(float(torch.linalg.slogdet(jacobian.reshape(size, size))[1]), rel=1e-6)
        assert abs(float(stated)) > 0.5, "a flow that changes no volume would prove nothing"


class Scale(nn.Module):
    """In place of a flow: latents are `factor` times the images."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.factor * x, torch.full((len(x),), x[0].numel() * math.log(self.factor))


def test_the_loss_is_the_likelihood_in_bits_a_grey_level() -> None:
    """Under latents = 2 x, a mid-grey image has density 2 / sqrt(2 pi) a pixel on [-1, 1]."""
    autoencoder = FlowAutoencoder(Scale(2.0), dequantisation=1e-3)
    loss, parts = autoencoder.training_loss(torch.full((2, 1, 4, 4), 0.5), randomness.generator("noise"))
    expected = -math.log2(2 / math.sqrt(2 * math.pi) * GREY_LEVEL)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert parts.keys() == {"bits_per_dim"}


def test_the_noise_is_as_wide_as_the_grey_levels_say() -> None:
    class Watched(Scale):
        def transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
            self.seen = x
            return super().transform(x)

    watched = Watched(1.0)
    FlowAutoencoder(watched, dequantisation=8.0).training_loss(torch.full((8, 1, 32, 32), 0.5), randomness.generator(0))
    assert float(watched.seen.abs().max()) == pytest.approx(4 * GREY_LEVEL, rel=1e-2)
    assert float(watched.seen.std()) == pytest.approx(8 * GREY_LEVEL / math.sqrt(12), rel=2e-2)


def test_noise_is_by_default_as_strong_as_that_of_measurements() -> None:
    std = Flow().dequantisation / 255 / math.sqrt(12)
    assert std == pytest.approx(GaussianBlur().noise_std, rel=0.01)
    assert Flow().build(1).dequantisation == Flow().dequantisation


def test_rounding_its_weights_leaves_it_invertible() -> None:
    autoencoder, x = build(2), images()
    autoencoder.model.half().float()
    with torch.no_grad():
        torch.testing.assert_close(autoencoder.decode(autoencoder.encode(x)), x, rtol=0, atol=1e-5)
