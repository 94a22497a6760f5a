"""Rank correlations of resamples from cumulated counts, against ranks that are sorted anew."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from workbench.metrics.ranks import rank_correlations
from workbench.metrics.statistics import multiplicities


@pytest.mark.parametrize("decimals", [9, 0], ids=["distinct", "ties"])
@pytest.mark.parametrize("shape", [(40,), (12, 4)], ids=["images", "levels"])
def test_resamples_have_the_correlation_of_their_drawn_values(shape: tuple[int, ...], decimals: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=shape).round(decimals), rng.normal(size=shape).round(decimals)
    images = rng.integers(shape[0], size=(20, shape[0]))
    (found,) = rank_correlations([x], y, multiplicities(images, shape[0]))
    assert found == pytest.approx([spearmanr(x[drawn].ravel(), y[drawn].ravel()).statistic for drawn in images])
