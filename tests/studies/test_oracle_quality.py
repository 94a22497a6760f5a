import pandas as pd
import pytest

from studies._oracle_quality import oracle_quality
from workbench.config import UserError


def rows(psnr: list[float], lpips: list[float], nfe: int, first: int = 1) -> pd.DataFrame:
    index = pd.Index(range(first, first + len(psnr)), name="image_id")
    return pd.DataFrame({"psnr": psnr, "lpips": lpips, "nfe": nfe}, index=index)


SWEEP = [rows([20.0, 25.0, 22.0], [0.3, 0.1, 0.2], 5), rows([21.0, 24.0, 22.0], [0.4, 0.2, 0.1], 10)]


def test_each_image_has_the_rows_of_its_best_start() -> None:
    best = oracle_quality(SWEEP)
    assert best["psnr"].tolist() == [21, 25, 22]
    assert best["nfe"].tolist() == [10, 5, 5]  # of equal ones the first
    assert best.index.tolist() == [1, 2, 3]


def test_less_lpips_is_better() -> None:
    assert oracle_quality(SWEEP, "lpips")["nfe"].tolist() == [5, 5, 10]


def test_a_start_chosen_on_other_noise_is_scored_on_the_first() -> None:
    """The other draw prefers the other start everywhere but for the last image."""
    other = [rows([30.0, 20.0, 20.0], [0, 0, 0], 0), rows([29.0, 21.0, 23.0], [0, 0, 0], 0)]
    assert oracle_quality(SWEEP, chosen_on=other)["psnr"].tolist() == [20, 24, 22]
    assert oracle_quality(SWEEP, chosen_on=other)["nfe"].tolist() == [5, 10, 10]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UserError, match="different images"):
        oracle_quality([SWEEP[0], rows([1.0, 2.0, 3.0], [0, 0, 0], 1, first=2)])
    with pytest.raises(UserError, match="got 2 and 1"):
        oracle_quality(SWEEP, chosen_on=SWEEP[:1])
