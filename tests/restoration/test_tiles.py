"""Overlapping tiles of a large image."""

import pytest
import torch

from workbench.core.config import UserError
from workbench.degradations import Degradation, GaussianNoise, RandomInpainting, SuperResolution
from workbench.diffusion import DDIM
from workbench.restoration import Restorer
from workbench.restoration.tiles import cut, restore_tiled, starts
from workbench.severity.start import SNRMatch
from workbench.severity.untrained import Untrained
from workbench.solvers import DecodeOnly
from workbench.testing.gaussian import Gaussian
from workbench.testing.linear import LinearAutoencoder, gaussian_prior

ID = torch.tensor([7])


def restorer(degradation: Degradation) -> Restorer:
    """Of networks that return what they see: D(E(y)) = y."""
    autoencoder = LinearAutoencoder()
    shape = autoencoder.latent_shape((1, 16, 16))
    prior = gaussian_prior(Gaussian.standard(torch.Size(shape).numel()), shape)
    start = SNRMatch(variance="residual")
    return Restorer(autoencoder, prior, Untrained(autoencoder), degradation, start, DecodeOnly(), DDIM(num_steps=4))


@pytest.mark.parametrize(
    ("length", "expected"), [(16, [0]), (10, [0]), (17, [0, 1]), (28, [0, 12]), (29, [0, 6, 13]), (40, [0, 12, 24])]
)
def test_the_fewest_tiles_that_overlap_enough(length: int, expected: list[int]) -> None:
    assert starts(length, 16, 4) == expected


@pytest.mark.parametrize("size", [(40, 29), (16, 50), (16, 16)])
def test_tiles_are_put_together_where_they_were_cut(size: tuple[int, int]) -> None:
    x = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
    measurement = GaussianNoise(noise_std=0.01).measure(x, torch.zeros(1), ID, seed=0)
    tiled = restore_tiled(restorer(GaussianNoise()), measurement, 16, 4)
    torch.testing.assert_close(tiled.x_hat, measurement.y.clamp(0, 1))


def test_a_tile_has_its_part_of_the_mask_and_noise_of_its_own() -> None:
    x = torch.rand(1, 1, 20, 30)
    measurement = RandomInpainting().measure(x, torch.ones(1), ID, seed=0)
    tiles = cut(measurement, [(0, 0), (4, 14)], 16, 16)
    assert tiles.observed is not None
    assert measurement.observed is not None
    assert torch.equal(tiles.observed[1], measurement.observed[0, :, 4:20, 14:30])
    assert torch.equal(tiles.params["mask"], tiles.observed)
    assert torch.equal(tiles.y[1], measurement.y[0, :, 4:20, 14:30])
    assert len(set(tiles.ids.tolist())) == 2


def test_low_resolution_has_no_tiles() -> None:
    measurement = SuperResolution().measure(torch.rand(1, 1, 32, 32), torch.ones(1), ID, seed=0)
    with pytest.raises(UserError, match="images of the size of the restored image"):
        restore_tiled(restorer(SuperResolution()), measurement, 16, 4)
