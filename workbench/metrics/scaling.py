"""Visualising a distance matrix: classical multidimensional scaling in closed form, and the tree of average linkage."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.core.config import UserError


@dataclass(frozen=True)
class Map:
    """Points in a plane for given distances.

    Attributes:
        points: (n, 2), centred, in the distances' unit; the first axis explains most.
        explained: the fraction of the eigenvalues' absolute sum in the two axes, 1 for distances in a plane.
        stress: Kruskal's stress-1 (1964), sqrt(sum (d - d_map)^2 / sum d^2), 0 for distances in a plane.
    """

    points: NDArray[np.float64]
    explained: float
    stress: float


def classical_map(distances: NDArray[np.floating]) -> Map:
    """Classical scaling (Torgerson 1952; Gower 1966): the leading eigenvectors of -1/2 J D^2 J.

    The largest coordinate of each axis is made positive, so that the same distances give the same map.

    Raises:
        UserError: for a matrix that is not square, symmetric, finite, with zero diagonal.
    """
    d = _checked(distances)
    n = len(d)
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


def average_linkage(distances: NDArray[np.floating]) -> NDArray[np.float64]:
    """The tree of average linkage (UPGMA) as scipy's linkage matrix, (n - 1, 4): merged, merged, distance, size.

    Raises:
        UserError: as `classical_map`, or for fewer than two objects.
    """
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    d = _checked(distances)
    if len(d) < 2:
        raise UserError("a tree needs at least two objects")
    return np.asarray(linkage(squareform(d, checks=False), "average"))


def _checked(distances: NDArray[np.floating]) -> NDArray[np.float64]:
    d = np.asarray(distances, dtype=np.float64)
    n = len(d)
    if d.shape != (n, n) or not np.isfinite(d).all() or not np.allclose(d, d.T) or not np.allclose(np.diag(d), 0):
        raise UserError("this needs a square, symmetric matrix of finite distances, 0 on the diagonal")
    return d
