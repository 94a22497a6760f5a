"""Statistics of each image for calibration, to be averaged over images later; a few kilobytes each."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.core.config import UserError
from workbench.core.tensors import Latents, Scalars
from workbench.metrics.calibration.grid import counts_on_grid
from workbench.metrics.calibration.independence import autocovariance, channel_covariance
from workbench.metrics.calibration.isotropy import by_position
from workbench.metrics.calibration.level import gaussian_crps
from workbench.metrics.likeness import radial_spectra

Rows = dict[str, NDArray[np.generic]]
"""By name, arrays whose first axis is images: see `collect`. `numpy.savez(file, **rows)` stores them."""


def collect(z_hat: Latents, z0: Latents, var_hat: Scalars) -> Rows:
    """One row per image: statistics of e = z_hat - z0 and of z = e / sqrt(var_hat).

    `join` combines rows of many batches, `take` selects a group of images, and `summarise` computes the group's
    figures. A channel is a group too: `collect(z_hat[:, k : k + 1], z0[:, k : k + 1], var_hat)`.

    Args:
        z_hat: estimates.
        z0: clean latents.
        var_hat: the predicted error variance per element, (batch,).

    Returns:
        var_hat, s2 (the Bessel-corrected variance of e's elements), crps (of N(0, var_hat), latent units): (n,).
        moments: (n, 4) means of z, z^2, z^3, z^4. counts: (n, bins) elements of z in the bins of `grid.EDGES`.
        error, estimate, error_square, estimate_square, product: (n, channel) means of e, z_hat, e^2, z_hat^2, e z_hat.
        position, position_square: (n, rows, columns) means over channels of z, z^2. spectrum: (n, frequency) of z.
        autocovariance, channel_covariance: of z, see `independence`. z: (n, d) itself, float32, for the effective
        number of elements. latent_shape: (n, 3), the same in every row.

    Raises:
        UserError: for a var_hat that is not positive and finite, errors that are not finite, or none in some image.
    """
    variance = var_hat.detach().double().cpu().numpy()
    estimate = z_hat.detach().double().cpu().numpy()
    error = estimate - z0.detach().double().cpu().numpy()
    _require_usable(error, variance)
    z = error / np.sqrt(variance)[:, None, None, None]
    flat = z.reshape(len(z), -1)
    elements = error.reshape(len(z), -1)
    return {
        "var_hat": variance,
        "s2": elements.var(axis=1, ddof=1),
        "crps": gaussian_crps(elements, variance[:, None]).mean(1),
        "moments": np.stack([(flat**power).mean(1) for power in (1, 2, 3, 4)], axis=1),
        "counts": counts_on_grid(flat),
        "error": error.mean((2, 3)),
        "estimate": estimate.mean((2, 3)),
        "error_square": (error**2).mean((2, 3)),
        "estimate_square": (estimate**2).mean((2, 3)),
        "product": (error * estimate).mean((2, 3)),
        "position": by_position(z),
        "position_square": by_position(z**2),
        "spectrum": radial_spectra(z),
        "z": flat.astype(np.float32),
        "autocovariance": autocovariance(z),
        "channel_covariance": channel_covariance(z),
        "latent_shape": np.tile(np.array(z.shape[1:], dtype=np.int64), (len(z), 1)),
    }


def join(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts, in their order.

    Raises:
        UserError: for no parts, or latents of different shapes.
    """
    if not parts:
        raise UserError("there are no images to join: collect at least one batch")
    shapes = {tuple(part["latent_shape"][0].tolist()) for part in parts if len(part["latent_shape"])}
    if len(shapes) > 1:
        raise UserError(f"latents of different shapes have no common statistics: {sorted(shapes)}; join each by itself")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def take(rows: Rows, index: ArrayLike) -> Rows:
    """The rows of the images at `index` (numbers, or one boolean per image): a group."""
    return {name: values[np.asarray(index)] for name, values in rows.items()}


def _require_usable(error: NDArray[np.float64], variance: NDArray[np.float64]) -> None:
    num = len(variance)
    if not num or len(error) != num:
        raise UserError(f"calibration needs one var_hat per image and at least one image, got {num} for {len(error)}")
    bad = int((~(np.isfinite(variance) & (variance > 0))).sum())
    if bad:
        raise UserError(
            f"var_hat of {bad} of {num} images is zero, negative, infinite or NaN: "
            f"train the severity encoder longer, or leave those images out"
        )
    broken = int((~np.isfinite(error).all(axis=(1, 2, 3))).sum())
    if broken:
        raise UserError(f"z_hat or z0 of {broken} of {num} images is infinite or NaN: leave those images out")
    if error[0].size < 2:
        raise UserError("the variance of an error needs latents of 2 elements or more")
    exact = int((np.ptp(error.reshape(num, -1), axis=1) == 0).sum())
    if exact:
        raise UserError(f"the error of {exact} of {num} images is constant (z_hat is z0?): nothing can be calibrated")
