"""The parts of the images that an estimator is fitted on."""

import pytest

from workbench.severity.fitted import MOST_HELD_OUT, parts
from workbench.severity.quick import Quick


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("num_images", [80, 301, 5000])
def test_no_image_is_in_two_parts_and_all_that_are_needed_are_used(num_images: int, *, learns: bool) -> None:
    every = [set(range(num_images)[part]) for part in parts(num_images, learns=learns)]
    assert sum(map(len, every)) == len(set.union(*every)) <= num_images
    estimate, variance, scores = map(len, every)
    assert variance == scores == min(MOST_HELD_OUT, num_images // (4 if learns else 2))
    assert estimate == (num_images - 2 * variance if learns else 0)


def test_scores_are_counted_from_the_parts() -> None:
    assert Quick().num_scores(2000) == MOST_HELD_OUT
    assert Quick().num_scores(100) == 25
