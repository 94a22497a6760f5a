"""Principal components in closed form: what is lost is what the discarded eigenvalues say."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from workbench.autoencoders import PCA
from workbench.autoencoders.pca import PCAAutoencoder
from workbench.core import randomness
from workbench.core.config import UserError

PATCH = 4


class Images:
    """Of an image split, what fitting uses."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: slice) -> Tensor:
        return self.x[index]


def images(num: int = 60, channels: int = 1, size: int = 16) -> Tensor:
    """Correlated noise about a mean that is not grey."""
    noise = torch.randn(num, channels, size, size, generator=randomness.generator("pca"))
    return (0.6 + 0.2 * F.avg_pool2d(noise, 3, stride=1, padding=1)).clamp(0, 1)


def fitted(x: Tensor, latent_channels: int = 5, **fields: int) -> PCAAutoencoder:
    return PCA(latent_channels=latent_channels, **fields).fit(x.shape[1], Images(x))


def spectrum(x: Tensor) -> Tensor:
    """Eigenvalues of the patches' covariance on [-1, 1], largest first, by another way than the fit's."""
    patches = F.unfold(2 * x.double() - 1, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1)
    return torch.linalg.svdvals(patches - patches.mean(0)).square() / len(patches)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kept", [1, 5, 12])
def test_the_squared_error_is_the_sum_of_the_discarded_eigenvalues(kept: int, channels: int) -> None:
    x = images(channels=channels)
    autoencoder = fitted(x, kept)
    with torch.no_grad():
        error = autoencoder.decode(autoencoder.encode(x)) - x
    lost = 4 * error.square().sum() / (len(x) * (x.shape[-1] // PATCH) ** 2)  # a patch, on [-1, 1]
    assert float(lost) == pytest.approx(float(spectrum(x)[kept:].sum()), rel=1e-4)


def test_all_components_lose_nothing() -> None:
    x = images()
    autoencoder = fitted(x, PATCH**2)
    with torch.no_grad():
        torch.testing.assert_close(autoencoder.decode(autoencoder.encode(x)), x, rtol=0, atol=1e-5)


def test_latents_are_white() -> None:
    x = images(channels=3)
    with torch.no_grad():
        z = fitted(x, 6).encode(x)
    flat = z.transpose(0, 1).flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(6), rtol=0, atol=1e-4)
    torch.testing.assert_close(flat @ flat.T / flat.shape[1], torch.eye(6), rtol=0, atol=1e-3)


def test_components_are_orthonormal() -> None:
    components = fitted(images(), 7).model.components.detach().flatten(1)
    torch.testing.assert_close(components @ components.T, torch.eye(7), rtol=0, atol=1e-5)


def test_only_so_many_images_are_taken() -> None:
    x = images()
    some, first = fitted(x, num_train_images=20), fitted(x[:20])
    torch.testing.assert_close(some.model.components, first.model.components, rtol=0, atol=0)
    assert not torch.allclose(some.model.components, fitted(x).model.components)


def test_fitting_draws_nothing_from_the_global_generator_that_matters() -> None:
    x = images()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        one = fitted(x)
        torch.manual_seed(2)
        other = fitted(x)
    torch.testing.assert_close(one.model.components, other.model.components, rtol=0, atol=0)


def test_images_without_enough_directions_are_refused() -> None:
    column = torch.linspace(0, 1, 8).reshape(-1, 1, 1, 1)
    with pytest.raises(UserError, match=r"vary in 1 directions only: set autoencoder\.latent_channels to at most 1"):
        fitted(column.expand(8, 1, 8, 8).contiguous())


def test_more_components_than_a_patch_has_numbers_are_refused() -> None:
    with pytest.raises(UserError, match=r"4 pixels a side and 1 channels has 16 numbers.*got 17"):
        PCA(latent_channels=17).build(1)
