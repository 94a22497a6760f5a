import itertools
import math

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import kstest, pearsonr, spearmanr

from workbench.core.config import UserError
from workbench.metrics import mantel_test


def distances(rng: np.random.Generator, n: int) -> np.ndarray:
    return squareform(pdist(rng.normal(size=(n, 2))))


def test_a_hand_worked_example() -> None:
    """Distances 1, 2, 3 of the pairs 01, 02, 12 against 1, 2, 6: of the six orders of the latter, r falls in this row:

    centred x is (-1, 0, 1) / sqrt 2, so r = (y12 - y01) / sqrt(2 * 14): 5, 4, 1, -1, -4, -5 over sqrt 28.
    """
    x = squareform([1.0, 2.0, 3.0])
    y = squareform([1.0, 2.0, 6.0])
    result = mantel_test(x, y, "pearson")
    assert result.r == pytest.approx(5 / math.sqrt(28))
    assert (result.p_greater, result.p_less, result.p_two_sided) == pytest.approx((1 / 6, 1, 2 / 6))
    assert (result.num_objects, result.num_permutations, result.exact) == (3, 6, True)
    assert result.least_p == pytest.approx(1 / 6)
    middle = mantel_test(x, squareform([2.0, 6.0, 1.0]), "pearson")
    assert middle.r == pytest.approx(-1 / math.sqrt(28))
    assert (middle.p_greater, middle.p_less, middle.p_two_sided) == pytest.approx((4 / 6, 3 / 6, 1))


@pytest.mark.parametrize("method", ["pearson", "spearman"])
@pytest.mark.parametrize("n", [4, 5, 6])
def test_the_mantel_package_agrees_exactly(method, n: int) -> None:
    import mantel

    rng = np.random.default_rng(n)
    for _ in range(3):
        x, y = distances(rng, n), distances(rng, n)
        ours = mantel_test(x, y, method)
        p = {"upper": ours.p_greater, "lower": ours.p_less, "two-tail": ours.p_two_sided}
        for tail, expected in p.items():
            theirs = mantel.test(x, y, perms=0, method=method, tail=tail)
            assert theirs.r == pytest.approx(ours.r, abs=1e-9)
            assert theirs.p == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("method", "plain"), [("pearson", pearsonr), ("spearman", spearmanr)])
def test_asymmetric_entries_are_used_as_they_stand(method, plain) -> None:
    rng = np.random.default_rng(0)
    x, y = distances(rng, 5), rng.normal(size=(5, 5))
    off = ~np.eye(5, dtype=bool)
    result = mantel_test(x, y, method)
    assert result.r == pytest.approx(plain(x[off], y[off]).statistic)
    everywhere = [plain(x[off], y[np.ix_(p, p)][off]).statistic for p in itertools.permutations(range(5))]
    assert result.p_greater == pytest.approx(np.mean([r >= result.r - 1e-9 for r in everywhere]))
    # a symmetric x sees of y its symmetric part alone, so Pearson's p is that of the symmetrised test
    if method == "pearson":
        assert mantel_test(x, (y + y.T) / 2, method).p_greater == result.p_greater


def test_the_diagonal_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    x, y = distances(rng, 5), distances(rng, 5)
    assert mantel_test(x + 9 * np.eye(5), np.where(np.eye(5), math.nan, y)) == mantel_test(x, y)


@pytest.mark.parametrize("n", [5, 6, 9])
def test_a_planted_relation_is_found(n: int) -> None:
    rng = np.random.default_rng(2)
    x = distances(rng, n)
    loss = np.exp(x + 0.05 * rng.normal(size=(n, n)))
    result = mantel_test(x, loss, num_permutations=999)
    assert result.r > 0.95
    assert result.p_greater <= 2 * result.least_p
    assert result.exact is (n <= 7)
    opposite = mantel_test(x, -loss, num_permutations=999)
    assert opposite.p_less <= 2 * opposite.least_p
    assert opposite.p_two_sided <= 4 * opposite.least_p


@pytest.mark.parametrize(("n", "num_permutations"), [(5, 1), (9, 199)])
def test_p_is_uniform_without_a_relation(n: int, num_permutations: int) -> None:
    """The pairs share objects: a test that took them for independent would find far too many small p."""
    rng = np.random.default_rng(3)
    found = []
    for trial in range(300):
        x, y = distances(rng, n), distances(rng, n)
        found.append(mantel_test(x, y, num_permutations=num_permutations, seed=trial).p_greater)
    assert kstest(found, "uniform").pvalue > 0.01
    assert 0.02 < np.mean(np.array(found) <= 0.05) < 0.09


def test_the_seed_decides_the_random_permutations() -> None:
    rng = np.random.default_rng(4)
    x, y = distances(rng, 8), distances(rng, 8)
    first, same, other = (mantel_test(x, y, num_permutations=99, seed=seed) for seed in (0, 0, 1))
    assert first == same
    assert first.r == other.r
    assert (first.num_permutations, first.exact) == (100, False)
    assert 0 < first.p_greater <= 1


@pytest.mark.parametrize("y", [np.ones((4, 4)), 0.1 * np.ones((4, 4)), 1e-9 * np.ones((4, 4))])
@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_a_constant_matrix_has_no_correlation(method, y: np.ndarray) -> None:
    result = mantel_test(distances(np.random.default_rng(5), 4), y, method)
    assert all(map(math.isnan, (result.r, result.p_greater, result.p_less, result.p_two_sided)))


def test_two_objects_say_nothing() -> None:
    assert math.isnan(mantel_test(squareform([1.0]), np.array([[0, 1], [2, 0.0]])).r)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((3, 3)), np.zeros((4, 4)), "one size"),
        (np.zeros((3, 2)), np.zeros((3, 2)), "square"),
        (np.zeros((1, 1)), np.zeros((1, 1)), "at least 2"),
        (np.zeros((3, 3)), np.full((3, 3), math.nan), "NaN"),
    ],
)
def test_what_cannot_be_compared_is_refused(x: np.ndarray, y: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        mantel_test(x, y)
