import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from workbench.core.config import UserError
from workbench.metrics import average_linkage, classical_map


@pytest.mark.parametrize("n", [3, 4, 9])
def test_points_of_a_plane_come_back_up_to_a_turn(n: int) -> None:
    d = squareform(pdist(np.random.default_rng(n).normal(size=(n, 2))))
    found = classical_map(d)
    np.testing.assert_allclose(squareform(pdist(found.points)), d, atol=1e-7)
    np.testing.assert_allclose(found.points.mean(0), 0, atol=1e-9)
    assert found.explained == pytest.approx(1)
    assert found.stress == pytest.approx(0, abs=1e-7)
    assert found.points[:, 0].var() >= found.points[:, 1].var()


def test_a_regular_simplex_explains_two_of_its_three_dimensions() -> None:
    """All eigenvalues are equal; the plane keeps two."""
    found = classical_map(1 - np.eye(4))
    assert found.explained == pytest.approx(2 / 3)
    assert 0 < found.stress < 1


def test_two_points_lie_on_a_line() -> None:
    found = classical_map(np.array([[0, 3.0], [3, 0]]))
    assert sorted(found.points[:, 0]) == pytest.approx([-1.5, 1.5])
    assert found.points[:, 1] == pytest.approx([0, 0], abs=1e-6)


def test_distances_of_no_space_are_mapped_and_the_rest_said() -> None:
    d = np.array([[0, 1, 5], [1, 0, 1], [5, 1, 0.0]])  # breaks the triangle inequality
    found = classical_map(d)
    assert found.explained < 1
    assert found.stress > 0.05


def test_equal_points_and_one_point() -> None:
    for n in (1, 3):
        found = classical_map(np.zeros((n, n)))
        assert not found.points.any()
        assert (found.explained, found.stress) == (1, 0)


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 3)), np.array([[0, 1], [2, 0.0]]), np.eye(2), np.full((2, 2), np.nan)], ids=str
)
def test_what_holds_no_distances_is_refused(bad: np.ndarray) -> None:
    for function in (classical_map, average_linkage):
        with pytest.raises(UserError, match="symmetric matrix"):
            function(bad)


def test_average_linkage_by_hand() -> None:
    """0 and 1 are joined at 1; 2 lies (4 + 6) / 2 from both together."""
    tree = average_linkage(np.array([[0, 1, 4], [1, 0, 6], [4, 6, 0.0]]))
    np.testing.assert_allclose(tree, [[0, 1, 1, 2], [2, 3, 5, 3]])
    with pytest.raises(UserError, match="at least two"):
        average_linkage(np.zeros((1, 1)))
