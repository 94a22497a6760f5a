"""Violation rates by hand, their exact intervals, and their bins."""

import math

import numpy as np
import pytest

from workbench.core.config import UserError
from workbench.metrics import violation_rate, violation_rates


def test_a_violation_is_a_value_above_its_own_bound() -> None:
    found = violation_rate([1.0, 2.0, 3.0, 4.0], [1.0, 1.9, 3.1, 0.0])
    assert found.mean == 0.5
    assert found.num_images == 4


@pytest.mark.parametrize(
    ("violations", "num_images", "low", "high"),
    [(0, 10, 0.0, 1 - 0.025 ** (1 / 10)), (10, 10, 0.025 ** (1 / 10), 1.0), (1, 1, 0.025, 1.0)],
)
def test_the_interval_is_exact(violations: int, num_images: int, low: float, high: float) -> None:
    """Clopper and Pearson's closed forms where none or all are violated."""
    found = violation_rate(np.arange(num_images) < violations, np.full(num_images, 0.5))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_bins_are_equal_parts_of_severity() -> None:
    severity = [0.0, 0.19, 0.2, 0.59, 0.61, 1.0]
    found = violation_rates([1, 0, 1, 1, 0, 1], [0.5] * 6, severity)
    assert [estimate.num_images for estimate in found] == [2, 1, 1, 1, 1]
    assert [estimate.mean for estimate in found] == [0.5, 1, 1, 0, 1]
    empty = violation_rates([1.0], [0.0], [0.5], num_bins=2)[0]
    assert empty.num_images == 0
    assert math.isnan(empty.mean)


@pytest.mark.parametrize(("s2", "bound"), [([1.0], [1.0, 2.0]), ([math.nan], [1.0]), ([1.0], [math.inf])])
def test_what_bounds_nothing_is_refused(s2: list[float], bound: list[float]) -> None:
    with pytest.raises(UserError):
        violation_rate(s2, bound)
