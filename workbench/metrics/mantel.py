"""Mantel's test: are two distance matrices over the same few objects correlated?

Pairs share objects and are not independent, so the objects are permuted, rows and columns jointly (Mantel 1967).
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workbench.core.config import UserError

MAX_EXACT = 7
"""All n! permutations are used up to this many objects (5,040), a random sample beyond."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class MantelResult:
    """The result of the test. NaN if the correlation is undefined (two objects, a constant matrix).

    Attributes:
        r: the correlation over the off-diagonal entries.
        p_greater, p_less: one-sided: the fraction of permutations with a correlation at least as high (low).
        p_two_sided: two-sided: the fraction with a correlation at least as far from 0.
        num_objects: number of objects, n.
        num_permutations: number of permutations used, including the identity.
        exact: whether all n! were used.
    """

    r: float
    p_greater: float
    p_less: float
    p_two_sided: float
    num_objects: int
    num_permutations: int
    exact: bool

    @property
    def least_p(self) -> float:
        """The smallest possible one-sided p-value: 1 / permutations."""
        return 1 / self.num_permutations


def mantel_test(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    method: Literal["spearman", "pearson"] = "spearman",
    num_permutations: int = 9999,
    seed: int = 0,
) -> MantelResult:
    """Correlate the off-diagonal entries of two (n, n) matrices under joint permutations of the rows and columns of y.

    Either may be asymmetric: all n (n - 1) off-diagonal entries are used, not their symmetric part. For symmetric
    matrices, this is the usual test over n (n - 1) / 2 pairs. Up to 7 objects, all n! permutations are used, and beyond
    that `num_permutations` random ones and the identity (Phipson & Smyth 2010: p is never 0).

    Raises:
        UserError: for matrices that are not square, of different sizes or below 2 x 2, or with NaN off the diagonal.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    n = len(a)
    if a.shape != b.shape or a.shape != (n, n) or n < 2:
        raise UserError(
            f"a Mantel test needs two square matrices of one size, at least 2 x 2: got {a.shape}, {b.shape}"
        )
    off = ~np.eye(n, dtype=bool)
    if not (np.isfinite(a[off]).all() and np.isfinite(b[off]).all()):
        raise UserError("a Mantel test refuses NaN and infinite entries off the diagonal")
    first, second = _standardised(a, off, method), _standardised(b, off, method)
    exact = n <= MAX_EXACT
    found = np.array([(first * second[np.ix_(p, p)]).sum() for p in _permutations(n, exact, num_permutations, seed)])
    r = float(found[0])
    return MantelResult(
        r=r,
        p_greater=_part(found >= r - _ROUNDING, r),
        p_less=_part(found <= r + _ROUNDING, r),
        p_two_sided=_part(np.abs(found) >= abs(r) - _ROUNDING, r),
        num_objects=n,
        num_permutations=len(found),
        exact=exact,
    )


def _permutations(n: int, exact: bool, num_random: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """The identity first, then all others or random ones."""
    if exact:
        yield from (np.array(p) for p in itertools.permutations(range(n)))
        return
    rng = np.random.default_rng(seed)
    yield np.arange(n)
    for _ in range(num_random):
        yield rng.permutation(n)


def _standardised(matrix: NDArray[np.float64], off: NDArray[np.bool_], method: str) -> NDArray[np.float64]:
    """Off-diagonal entries (or their ranks) centred and of unit norm, 0 on the diagonal; NaN for constant ones."""
    from pandas import Series

    values = Series(matrix[off]).rank().to_numpy() if method == "spearman" else matrix[off]
    values = values - values.mean()
    norm = float(np.linalg.norm(values))
    largest = float(np.abs(matrix[off]).max())
    result = np.zeros_like(matrix)
    # constant entries leave rounding behind, which must not be blown up to unit norm
    result[off] = values / norm if norm > _ROUNDING * (1 if method == "spearman" else largest) else math.nan
    return result


def _part(counted: NDArray[np.bool_], r: float) -> float:
    return math.nan if math.isnan(r) else float(counted.mean())
