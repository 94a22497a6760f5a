"""Training of the patch family starts from the principal components, and improves on them."""

import pytest
import torch

from workbench.autoencoders import PCA, Patch
from workbench.autoencoders.patch import PatchAutoencoder
from workbench.autoencoders.pca import PCAAutoencoder
from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.tensors import Images


class Split:
    """Of an image split, what fitting uses."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: slice) -> torch.Tensor:
        return self.x[index]


def edges(num: int = 64) -> Images:
    """A bright half-plane at a random place and angle, in a random colour: what is not linear in a patch."""
    draw = torch.rand(num, 6, generator=randomness.generator("edges"))
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    angle, offset = 6.28 * draw[:, 0, None, None], 12 * (draw[:, 1, None, None] - 0.5)
    inside = ((rows - 7.5) * angle.cos() + (columns - 7.5) * angle.sin() > offset).float()
    return 0.1 + 0.8 * inside[:, None] * draw[:, 3:, None, None]


def small(**fields: object) -> Patch:
    return Patch.parse({"latent_channels": 4, "width": 8, "latent_width": 16, "num_latent_blocks": 1, **fields})


@pytest.fixture
def prepared() -> PatchAutoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        autoencoder = small().build(3)
    autoencoder.prepare(Split(edges()))
    return autoencoder


def test_before_training_it_is_the_principal_components(prepared: PatchAutoencoder) -> None:
    x = edges()
    components = PCA(latent_channels=4).fit(3, Split(x))
    assert isinstance(components, PCAAutoencoder)
    with torch.no_grad():
        torch.testing.assert_close(prepared.encode(x), components.encode(x))
        torch.testing.assert_close(prepared.decode(prepared.encode(x)), components.decode(components.encode(x)))


def test_training_improves_on_the_principal_components(prepared: PatchAutoencoder) -> None:
    x = edges()

    def error() -> float:
        with torch.no_grad():
            return float((prepared.decode(prepared.encode(x)) - x).square().mean())

    linear = error()
    optimizer = torch.optim.AdamW(prepared.parameters(), lr=2e-3)
    for step in range(60):
        loss, _ = prepared.training_loss(x, randomness.generator("loss", step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert error() < 0.8 * linear


def test_a_trained_encoder_is_copied_with_its_corrections(prepared: PatchAutoencoder) -> None:
    for parameter in prepared.parameters():  # as if trained
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=randomness.generator(str(parameter.shape)))
    x = edges(4)
    with torch.no_grad():
        features, z = prepared.encoder_copy()(x)
        torch.testing.assert_close(z, prepared.encode(x))
    assert features.shape == (4, 4 + 16, 4, 4)


def test_more_channels_than_a_patch_has_values_are_refused() -> None:
    with pytest.raises(UserError, match="has 16 numbers"):
        small(latent_channels=17).build(1)


def test_scaled_channels_reconstruct_the_same(prepared: PatchAutoencoder) -> None:
    prepared.channel_power = 0.5
    for parameter in prepared.parameters():  # as if trained
        parameter.data += 0.05 * torch.rand(parameter.shape, generator=randomness.generator(str(parameter.shape)))
    x, deviations = edges(8), prepared.model.basis.std.detach().clone()
    with torch.no_grad():
        z, x_hat = prepared.encode(x), prepared.decode(prepared.encode(x))
        prepared.finish()
        factors = (prepared.encode(x) / z).flatten(2)
        torch.testing.assert_close(prepared.decode(prepared.encode(x)), x_hat, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(factors.square().mean(), torch.tensor(1.0), rtol=1e-4, atol=0)
    wanted = (deviations / deviations[0]).sqrt()
    torch.testing.assert_close(factors[0, :, 0] / factors[0, 0, 0], wanted, rtol=1e-3, atol=0)
