"""Images whose size the networks do not take, and greyscale images for a colour model."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from workbench.autoencoders.padded import PaddedAutoencoder, reflect
from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.degradations import Degradation, GaussianBlur, GaussianNoise, RandomInpainting, SuperResolution
from workbench.diffusion import DDIM
from workbench.restoration import Restorer
from workbench.severity.start import Fixed, SNRMatch
from workbench.severity.untrained import Untrained
from workbench.solvers import LDPS
from workbench.testing.gaussian import Gaussian
from workbench.testing.linear import LinearAutoencoder, gaussian_prior

IDS = torch.arange(3)
SEVERITY = torch.tensor([0.2, 0.5, 1.0])


def restorer(degradation: Degradation, size: tuple[int, int], channels: int = 1) -> Restorer:
    """Of linear networks with 2 x 2 blocks; the prior knows latents of images of this size."""
    autoencoder = LinearAutoencoder(encoder_error=0.3, image_channels=channels)
    latent_shape = autoencoder.latent_shape((channels, *size))
    return Restorer(
        autoencoder,
        gaussian_prior(Gaussian.standard(torch.Size(latent_shape).numel()), latent_shape),
        Untrained(autoencoder),
        degradation,
        SNRMatch(variance="residual"),
        LDPS(guidance_scale=0.5),
        DDIM(num_steps=20),
        num_slots=2,
    )


def images(*shape: int) -> Tensor:
    return randomness.uniform(IDS, ("image",), shape)


@pytest.mark.parametrize(("size", "multiple"), [((7, 9), 4), ((9, 16), 8), ((31, 17), 16)])
def test_an_image_is_continued_as_torch_reflects(size: tuple[int, int], multiple: int) -> None:
    x = images(2, *size)
    below, right = (-length % multiple for length in size)
    assert torch.equal(reflect(x, multiple), torch.nn.functional.pad(x, (0, right, 0, below), mode="reflect"))


def test_a_small_image_is_reflected_as_often_as_needed() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0]])
    assert reflect(x, 4).tolist() == [[1, 2, 3, 2, 1, 2, 3, 2]] * 8
    assert reflect(x[:, :1], 2).tolist() == [[1] * 4] * 4


def test_what_is_added_is_cut_off_again() -> None:
    inner = LinearAutoencoder()
    autoencoder = PaddedAutoencoder(inner, (7, 9), 4)
    x = images(1, 7, 9)
    z = autoencoder.encode(x)
    assert tuple(z.shape[1:]) == autoencoder.latent_shape((1, 7, 9)) == inner.latent_shape((1, 8, 12))
    torch.testing.assert_close(autoencoder.decode(z), x)


def test_what_is_added_is_not_observed() -> None:
    """The same as the whole canvas of which only the image is measured, and which the encoder sees continued."""
    size, canvas = (7, 9), (8, 10)
    measurement = GaussianNoise().measure(images(1, *size), SEVERITY, IDS, seed=0)
    inside = torch.zeros(3, 1, *canvas)
    inside[..., : size[0], : size[1]] = 1
    y = reflect(measurement.y, 2)
    whole = Measurement(y * inside, IDS, measurement.noise_std, observed=inside, view=y)
    own = replace(restorer(GaussianNoise(), canvas), start=Fixed(timestep=300))
    found, expected = own.restore_all(measurement), own.restore_all(whole)
    assert found.x_hat.shape == (3, 1, *size)
    torch.testing.assert_close(found.x_hat, expected.x_hat[..., : size[0], : size[1]])


@pytest.mark.parametrize("degradation", [GaussianBlur(), RandomInpainting(), SuperResolution()], ids=lambda d: d.kind)
def test_any_operator_acts_on_the_image_alone(degradation: Degradation) -> None:
    measurement = degradation.measure(images(1, 11, 13), SEVERITY, IDS, seed=0)
    restored = restorer(degradation, (12, 14)).restore_all(measurement)
    assert restored.x_hat.shape == (3, 1, 11, 13)
    residual, of_grey = (
        measurement.residual_rms(degradation.A(x, measurement.params))
        for x in (restored.x_hat, torch.full_like(restored.x_hat, 0.5))
    )
    assert (residual < of_grey).all(), "the measurement is listened to"


def test_a_colour_model_restores_greyscale_images() -> None:
    """As if the measurement were in colour with three equal channels, as far as the encoder can tell."""
    degradation = GaussianBlur()
    colour, size = restorer(degradation, (12, 14), channels=3), (12, 14)
    measurement = degradation.measure(images(1, *size), SEVERITY, IDS, seed=0)
    restored = colour.restore_all(measurement)
    assert restored.x_hat.shape == (3, 1, *size)
    torch.testing.assert_close(restored.z_hat, colour.autoencoder.encode(measurement.y.expand(-1, 3, -1, -1)))
    residual = measurement.residual_rms(degradation.A(restored.x_hat, measurement.params))
    assert (residual < measurement.residual_rms(torch.full_like(measurement.y, 0.5))).all()


def test_networks_that_take_the_image_are_used_as_they_are() -> None:
    whole = restorer(GaussianNoise(), (8, 10))
    assert whole.for_images((1, 8, 10)) is whole
    assert whole.for_images((1, 7, 10)) is not whole


@pytest.mark.parametrize(
    ("channels", "message"),
    [(2, "the model restores colour images, but these are 2-channel"), (4, "colour images, but these are 4-channel")],
)
def test_other_channels_are_refused(channels: int, message: str) -> None:
    measurement = GaussianNoise().measure(images(channels, 8, 10), SEVERITY, IDS, seed=0)
    with pytest.raises(UserError, match=message):
        restorer(GaussianNoise(), (8, 10), channels=3).restore_all(measurement)
    with pytest.raises(UserError, match="the model restores greyscale images, but these are"):
        restorer(GaussianNoise(), (8, 10)).restore_all(measurement)


def test_fewer_large_images_are_restored_at_once() -> None:
    own = replace(restorer(GaussianNoise(), (8, 8)), num_slots=64, slot_pixels=64)
    slots = {size: own.for_images((1, size, size)).num_slots for size in (4, 8, 16, 24, 100)}
    assert slots == {4: 64, 8: 64, 16: 16, 24: 7, 100: 1}
