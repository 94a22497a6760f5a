"""Images of any number of channels, square or not, through a whole restoration, and as pictures."""

import numpy as np
import pytest
import torch
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.data.shown import shown
from workbench.degradations import Degradation, GaussianBlur, GaussianNoise, RandomInpainting
from workbench.diffusion import DDIM
from workbench.metrics import psnr, ssim
from workbench.metrics.perceptual import LPIPSMetric
from workbench.restoration import Restorer
from workbench.severity.start import SNRMatch
from workbench.severity.untrained import Untrained
from workbench.solvers import LDPS
from workbench.stages.measure.trivial import residual_rms
from workbench.testing.gaussian import Gaussian
from workbench.testing.linear import LinearAutoencoder, gaussian_prior

HEIGHT, WIDTH = 8, 12


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("degradation", [GaussianNoise(), RandomInpainting(), GaussianBlur()], ids=lambda d: d.kind)
def test_it_is_restored(channels: int, degradation: Degradation) -> None:
    shape, ids = (channels, HEIGHT, WIDTH), torch.arange(5)
    autoencoder = LinearAutoencoder(image_channels=channels)
    latent_shape = autoencoder.latent_shape(shape)
    assert latent_shape == (4 * channels, HEIGHT // 2, WIDTH // 2)
    prior = gaussian_prior(Gaussian.standard(torch.Size(latent_shape).numel()), latent_shape)
    x = autoencoder.decode(randomness.normal(ids, ("z0",), latent_shape))
    measurement = degradation.measure(x, torch.linspace(0.2, 1, 5), ids, 0)
    restorer = Restorer(
        autoencoder,
        prior,
        Untrained(autoencoder),
        degradation,
        SNRMatch(variance="residual"),
        LDPS(guidance_scale=0.5),
        DDIM(num_steps=20),
        num_slots=2,
    )
    restored = restorer.restore_all(measurement)
    assert restored.x_hat.shape == x.shape
    assert (restored.nfe > 0).all()
    assert psnr(restored.x_hat, x).shape == ssim(restored.x_hat, x).shape == (5,)
    # the measurement is listened to: its residual is less than that of grey
    grey = torch.full_like(x, 0.5)
    assert (residual_rms(measurement, degradation, restored.x_hat) < residual_rms(measurement, degradation, grey)).all()


def test_lpips_refuses_what_its_classifier_does_not_know() -> None:
    class Never(torch.nn.Module):
        def forward(self, one: Tensor, other: Tensor) -> Tensor:
            raise AssertionError

    x = torch.rand(1, 2, 16, 16)
    with pytest.raises(UserError, match="LPIPS compares greyscale or colour images, but these have 2 channels"):
        LPIPSMetric(Never())(x, x)


def test_any_image_can_be_shown() -> None:
    image = np.random.default_rng(0).random((4, 6, 5))
    assert shown(image[..., :1]) is not None
    assert np.array_equal(shown(image[..., :3]), image[..., :3])
    complex_image = image[..., :1] + 1j * image[..., 1:2]
    assert np.allclose(shown(image[..., :2]), np.abs(complex_image))
    assert np.allclose(shown(image), image.mean(2, keepdims=True))
