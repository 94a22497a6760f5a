"""The similarity of two sets of latents: moments, the Fréchet distance between their Gaussians, spectra of errors.

All distances here are zero between a set and itself, and symmetric. Latents have unit variance over the training
images, so a distance per element of 1 is as large as the latents themselves.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from workbench.core.config import UserError

Array = NDArray[np.float64]

_ROUNDING = 1e-5
"""Negative eigenvalues of a covariance up to this fraction of the largest one are rounding (of float32 files)."""


@dataclass(frozen=True)
class Moments:
    """Mean (d,) and Bessel-corrected covariance (d, d) of `num` vectors."""

    num: int
    mean: Array
    covariance: Array

    @classmethod
    def of(cls, samples: NDArray[np.floating]) -> Self:
        """The moments of (num, d) vectors, or of (num, ...) arrays as vectors. A single vector has zero covariance.

        Raises:
            UserError: for no vectors, NaN or infinite values.
        """
        if not np.size(samples):
            raise UserError("moments need at least one vector, got none")
        vectors = np.asarray(samples, dtype=np.float64).reshape(len(samples), -1)
        if not np.isfinite(vectors).all():
            raise UserError("moments refuse NaN and infinite values")
        mean = vectors.mean(0)
        centred = vectors - mean
        return cls(len(vectors), mean, centred.T @ centred / max(len(vectors) - 1, 1))

    @classmethod
    def pooled(cls, parts: Sequence["Moments"]) -> Self:
        """The moments of all parts' vectors together (Chan, Golub & LeVeque 1983). Empty parts are ignored.

        Raises:
            UserError: if no part has a vector.
        """
        parts = [part for part in parts if part.num]
        if not parts:
            raise UserError("moments need at least one vector, got none")
        num = sum(part.num for part in parts)
        mean = np.sum([part.num * part.mean for part in parts], axis=0) / num
        scatter = np.zeros_like(parts[0].covariance)
        for part in parts:
            shift = part.mean - mean
            scatter += (part.num - 1) * part.covariance + part.num * np.outer(shift, shift)
        return cls(num, mean, scatter / max(num - 1, 1))


def frechet_distance(a: Moments, b: Moments) -> float:
    """The Fréchet distance between two Gaussians: the root of d^2 in Dowson & Landau (1982), eq. 4 (FID is d^2).

    d^2 = |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)). The last trace is the sum of the singular values of
    S_a^(1/2) S_b^(1/2): no root of a product that is not symmetric, and exact for singular covariances too. The root
    is a metric (the 2-Wasserstein distance), in the unit of the vectors.

    Raises:
        UserError: for different sizes, NaN, or an invalid covariance (asymmetric, negative eigenvalues).
    """
    return float(frechet_matrix([a, b])[0, 1])


def frechet_matrix(sets: Sequence[Moments]) -> Array:
    """The Fréchet distance between each pair of `sets`, (n, n); errors as in `frechet_distance`."""
    _require_one_size(sets)
    means = [moments.mean for moments in sets]
    roots = [_root(moments.covariance) for moments in sets]
    return _matrix(
        len(sets),
        lambda i, j: math.hypot(float(np.linalg.norm(means[i] - means[j])), _bures(roots[i], roots[j])),
    )


def sampling_distance(moments: Moments, num: int) -> float:
    """The expected distance of two independent sets of `num` vectors from one Gaussian: root of E[d^2], to order 1/num.

    A distance between two degradations is only meaningful if it is well above this. With eigenvalues l of the
    covariance, the mean's part is 2 tr(S) / num; the covariances' part follows from the second-order form of the Bures
    distance, 1/2 sum_ij |dS_ij|^2 / (l_i + l_j), and Var dS_ij = 2 l_i l_j (1 + [i = j]) / num.
    """
    eigenvalues = np.linalg.eigvalsh(moments.covariance)
    kept = eigenvalues[eigenvalues > _ROUNDING * eigenvalues.max(initial=0)]
    if not kept.size:
        return 0.0
    harmonic = np.outer(kept, kept) / np.add.outer(kept, kept)
    return math.sqrt((2 * kept.sum() + harmonic.sum() + np.trace(harmonic)) / num)


def radial_spectrum(errors: NDArray[np.floating]) -> Array:
    """Power of (num, channel, height, width) errors by spatial frequency, averaged over errors, channels and angle.

    Normalised so that white noise of variance v has v everywhere. Bin k holds the frequencies whose radius rounds to
    k / max(height, width) cycles per latent pixel; bin 0 is the mean over the latent.

    Raises:
        UserError: for another shape.
    """
    return _radial_mean(_power(errors).mean((0, 1)))


def radial_spectra(errors: NDArray[np.floating]) -> Array:
    """`radial_spectrum` of each error, (num, frequencies).

    Raises:
        UserError: for another shape.
    """
    return np.stack([_radial_mean(power) for power in _power(errors).mean(1)])


def radial_counts(height: int, width: int) -> NDArray[np.int64]:
    """The number of frequencies in each bin of `radial_spectrum`.

    No bin is empty: along the longer side, radii of neighbouring frequencies differ by less than a bin.
    """
    return np.bincount(_radial_bins(height, width).ravel())


def spectral_distance(a: Array, b: Array, counts: NDArray[np.int64]) -> float:
    """The log-spectral distance between the *shapes* of two radial spectra, in dB.

    Each spectrum is divided by its mean power (bins weighted by `counts`), because the level of errors is already in
    their covariance; logarithms show weak frequencies, which a covariance distance overlooks.

    Raises:
        UserError: for spectra that are not positive or not of `counts`' length.
    """
    if not a.shape == b.shape == counts.shape:
        raise UserError(f"spectra of different sizes cannot be compared: {a.shape}, {b.shape}, {counts.shape} counts")
    if not (np.all(a > 0) and np.all(b > 0)):
        raise UserError("a log-spectral distance needs positive power at every frequency")
    weights = counts / counts.sum()
    decibels = 10 * np.log10(a / (weights @ a)) - 10 * np.log10(b / (weights @ b))
    return math.sqrt(float(weights @ decibels**2))


def spectral_matrix(spectra: Sequence[Array], counts: NDArray[np.int64]) -> Array:
    """The log-spectral distance between each pair of spectra, (n, n) in dB."""
    return _matrix(len(spectra), lambda i, j: spectral_distance(spectra[i], spectra[j], counts))


def _matrix(num: int, distance: Callable[[int, int], float]) -> Array:
    matrix = np.zeros((num, num))
    for i in range(num):
        for j in range(i):
            matrix[i, j] = matrix[j, i] = distance(i, j)
    return matrix


def _bures(root_a: Array, root_b: Array) -> float:
    """The covariances' part of the Fréchet distance, from their square roots."""
    overlap = np.linalg.svd(root_a @ root_b, compute_uv=False).sum()
    return math.sqrt(max(float((root_a**2).sum() + (root_b**2).sum() - 2 * overlap), 0.0))


def _root(covariance: Array) -> Array:
    """The symmetric square root of a covariance, rounding below zero clipped."""
    size = max(float(np.abs(covariance).max(initial=0)), np.finfo(float).tiny)
    if not np.isfinite(covariance).all() or np.abs(covariance - covariance.T).max(initial=0) > _ROUNDING * size:
        raise UserError("a covariance must be finite and symmetric")
    eigenvalues, vectors = np.linalg.eigh(covariance)
    if eigenvalues.min(initial=0) < -_ROUNDING * max(eigenvalues.max(initial=0), size):
        raise UserError(f"a covariance has no negative eigenvalues, but this one has {eigenvalues.min():.3g}")
    return np.asarray((vectors * np.sqrt(eigenvalues.clip(min=0))) @ vectors.T)


def _require_one_size(sets: Sequence[Moments]) -> None:
    for moments in sets:
        d = len(moments.mean)
        if moments.covariance.shape != (d, d) or d != len(sets[0].mean):
            raise UserError(
                f"vectors of different sizes cannot be compared: {len(sets[0].mean)} and {d}, "
                f"covariance {moments.covariance.shape}"
            )


def _power(errors: NDArray[np.floating]) -> Array:
    """|FFT|^2 of each channel of each error."""
    if errors.ndim != 4 or not errors.size:
        raise UserError(f"a spectrum needs (num, channel, height, width) errors, got {errors.shape}")
    return np.asarray(np.abs(np.fft.fft2(errors.astype(np.float64))) ** 2)


def _radial_mean(power: Array) -> Array:
    """(height, width) power averaged over angle, normalised so that white noise of variance v has v everywhere."""
    bins = _radial_bins(*power.shape).ravel()
    return np.asarray(np.bincount(bins, power.ravel() / power.size) / np.bincount(bins))


def _radial_bins(height: int, width: int) -> NDArray[np.int64]:
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    # the small addend rounds halves up on every machine
    return np.floor(radius * max(height, width) + 0.5 + 1e-9).astype(np.int64)
