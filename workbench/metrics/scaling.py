"""Classical multidimensional scaling: points whose distances are like given ones, in closed form."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.config import UserError


@dataclass(frozen=True)
class Map:
    """Points in a plane for given distances.

    Attributes:
        points: (n, 2), about their mean, in the distances' unit; the first axis explains most.
        explained: the part of the eigenvalues' absolute sum that the two axes hold, 1 for distances in a plane.
        stress: Kruskal's stress-1 (1964), sqrt(sum (d - d_map)^2 / sum d^2), 0 for distances in a plane.
    """

    points: NDArray[np.float64]
    explained: float
    stress: float


def classical_map(distances: NDArray[np.floating]) -> Map:
    """Classical scaling (Torgerson 1952; Gower 1966): the leading eigenvectors of -1/2 J D^2 J.

    Each axis is turned so that its largest coordinate is positive: the same distances give the same map.

    Raises:
        UserError: for a matrix that is not square, symmetric, finite, of zero diagonal.
    """
    d = np.asarray(distances, dtype=np.float64)
    n = len(d)
    if d.shape != (n, n) or not np.isfinite(d).all() or not np.allclose(d, d.T) or not np.allclose(np.diag(d), 0):
        raise UserError("a map needs a square, symmetric matrix of finite distances, 0 on the diagonal")
    centring = np.eye(n) - 1 / n
    eigenvalues, vectors = np.linalg.eigh(-0.5 * centring @ d**2 @ centring)
    order = np.argsort(-eigenvalues)
    total = float(np.abs(eigenvalues).sum())
    points = np.zeros((n, 2))
    for axis, k in enumerate(order[:2]):
        column = vectors[:, k] * math.sqrt(max(eigenvalues[k], 0.0))
        points[:, axis] = column * (np.sign(column[np.abs(column).argmax()]) or 1.0)
    shown = np.linalg.norm(points[:, None] - points[None], axis=-1)
    kept = float(eigenvalues[order[:2]].clip(min=0).sum())
    squares = float((d**2).sum())
    return Map(
        points=points,
        explained=kept / total if total else 1.0,
        stress=math.sqrt(float(((d - shown) ** 2).sum()) / squares) if squares else 0.0,
    )
