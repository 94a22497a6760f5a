"""A large image in overlapping tiles, each restored by itself: for comparison with whole images of any size.

The operator of a tile is the image's with a border at the tile's edge, where the image has none, so its measurement is
not exactly what it says there. Neighbouring tiles are blended with weights that fall linearly to their edges.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.core.randomness import seed_of
from workbench.core.tensors import Images
from workbench.restoration.record import Restored
from workbench.restoration.restorer import Restorer


@dataclass(frozen=True)
class TiledImage:
    """An image restored in tiles.

    Attributes:
        x_hat: (1, channel, height, width).
        tiles: the restored tiles.
    """

    x_hat: Images
    tiles: Restored

    @property
    def flops(self) -> float:
        """FLOPs of all tiles."""
        return float(self.tiles.flops.sum())

    @property
    def nfe(self) -> float:
        """Evaluations of the prior per pixel of the image: those of the tiles, which overlap."""
        tile = self.tiles.x_hat.shape[2] * self.tiles.x_hat.shape[3]
        return float(self.tiles.nfe.sum()) * tile / (self.x_hat.shape[2] * self.x_hat.shape[3])


def restore_tiled(restorer: Restorer, measurement: Measurement, side: int, overlap: int) -> TiledImage:
    """Restore the only image of a measurement in square tiles.

    Args:
        side: pixels a side of a tile; less if the image is smaller.
        overlap: pixels that neighbours share, at least.

    Raises:
        UserError: for an operator whose measurement is not an image of the same size.
    """
    if len(measurement) != 1:
        raise ValueError(f"one image at a time, got {len(measurement)}")
    if measurement.view is not None or measurement.y.ndim != 4:
        raise UserError("tiles need measurements that are images of the size of the restored image")
    height, width = measurement.y.shape[2:]
    places = [(top, left) for top in starts(height, side, overlap) for left in starts(width, side, overlap)]
    tiles = restorer.restore_all(cut(measurement, places, min(side, height), min(side, width)))
    weights = _hat(tiles.x_hat.shape[2])[:, None] * _hat(tiles.x_hat.shape[3])
    weights = weights.to(tiles.x_hat)
    total, weight = torch.zeros_like(measurement.y[0]), torch.zeros_like(measurement.y[0, :1])
    for (top, left), tile in zip(places, tiles.x_hat, strict=True):
        here = (..., slice(top, top + tile.shape[1]), slice(left, left + tile.shape[2]))
        total[here] += weights * tile
        weight[here] += weights
    return TiledImage((total / weight)[None], tiles)


def starts(length: int, side: int, overlap: int) -> list[int]:
    """First pixels of the fewest tiles along a side that overlap at least so much, evenly spread."""
    if length <= side:
        return [0]
    count = -(-(length - overlap) // (side - overlap))
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def cut(measurement: Measurement, places: Sequence[tuple[int, int]], height: int, width: int) -> Measurement:
    """The tiles at these places (top, left) as measurements of images of their own, each with its own id and noise."""
    size = tuple(measurement.y.shape[2:])

    def crop(tensor: Tensor, top: int, left: int) -> Tensor:
        has_pixels = tensor.ndim == 4 and tuple(tensor.shape[2:]) == size
        return tensor[..., top : top + height, left : left + width] if has_pixels else tensor

    def crops(tensors: Mapping[str, Tensor], top: int, left: int) -> dict[str, Tensor]:
        return {name: crop(tensor, top, left) for name, tensor in tensors.items()}

    image_id = int(measurement.ids[0])
    return Measurement.cat(
        [
            replace(
                measurement,
                y=crop(measurement.y, top, left),
                ids=torch.tensor([seed_of(image_id, "tile", top, left)], device=measurement.ids.device),
                params=crops(measurement.params, top, left),
                observed=None if measurement.observed is None else crop(measurement.observed, top, left),
            )
            for top, left in places
        ]
    )


def _hat(length: int) -> Tensor:
    """Weights that rise linearly from an edge to the middle, and fall again."""
    position = torch.arange(length) + 0.5
    return torch.minimum(position, length - position)
