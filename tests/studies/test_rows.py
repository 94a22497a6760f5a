import numpy as np
import pandas as pd
import pytest
from synthetic_robustness import make_results

from studies._rows import (
    ABSENT,
    cells_by,
    difference,
    has_column,
    intervals,
    log_crossing,
    lost,
    mean_over,
    means_table,
    over_images,
    paired,
    table,
)
from workbench.config import UserError
from workbench.metrics import mean_interval

RESULTS = make_results(8)


def rows(ids: list[int], psnr: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"psnr": psnr, "nfe": psnr}, index=pd.Index(ids, name="image_id"))


def test_cells_are_found_by_their_key() -> None:
    cells = cells_by(RESULTS.frame, lambda row: (row["encoder"], row["degradation"]))
    cell = cells["mixture", "gaussian_blur"]
    assert cell.index.is_monotonic_increasing
    expected = RESULTS.frame.query("encoder == 'mixture' and degradation == 'gaussian_blur'").set_index("image_id")
    pd.testing.assert_frame_equal(cell, expected.sort_index())
    with pytest.raises(UserError, match="two cells are called mixture"):
        cells_by(RESULTS.frame, lambda row: row["encoder"] if row["encoder"] == "mixture" else tuple(row))


def test_paired_cells_stand_beside_each_other() -> None:
    a, b = rows([1, 2], [20.0, 21.0]), rows([1, 2], [21.0, 19.0])
    assert paired({"a": a, "b": b}, "psnr").to_dict("list") == {"a": [20, 21], "b": [21, 19]}
    with pytest.raises(UserError, match="different images"):
        paired({"a": a, "b": rows([1, 3], [21.0, 19.0])}, "psnr")


def test_a_mean_over_cells_is_over_those_that_have_values() -> None:
    cells = [pd.Series([1.0, 2.0], index=[1, 2]), None, pd.Series([3.0, 6.0], index=[1, 2])]
    assert (mean_over(cells).mean, mean_over(cells).num_images) == (3, 2)
    assert mean_over([None]) is ABSENT


def test_differences_are_of_the_same_images() -> None:
    a, b = rows([1, 2], [20.0, 21.0]), rows([1, 2], [21.0, 19.0])
    assert difference(a, b, "psnr").tolist() == [-1, 2]
    assert lost(a, b, "psnr").tolist() == [1, -2]
    assert lost(a, b, "nfe").tolist() == [-1, 2]  # fewer is better
    with pytest.raises(UserError, match="these two were tested on different images"):
        difference(a, rows([1, 3], [21.0, 19.0]), "psnr", names="these two")


def test_a_column_with_gaps_is_not_there() -> None:
    cell = rows([1, 2], [20.0, float("nan")])
    assert not has_column(cell, "psnr")
    assert not has_column(cell, "lpips")
    assert has_column(cell[:1], "psnr")


def test_an_image_counts_once_over_several_cells() -> None:
    cells = [pd.Series([1.0, 2.0], index=[1, 2]), pd.Series([3.0, 5.0], index=[1, 3])]
    assert over_images(cells).to_dict() == {1: 2.0, 2: 2.0, 3: 5.0}
    assert over_images([]).empty


def test_intervals_of_many_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    values = [rng.normal(size=n) for n in (8, 5, 8)]
    for found, one in zip(intervals(values), values, strict=True):
        alone = mean_interval(one)
        assert (found.mean, found.low, found.high) == pytest.approx((alone.mean, alone.low, alone.high), rel=0.05)
    assert intervals([]) == []


def test_a_crossing_is_interpolated_on_a_logarithmic_axis() -> None:
    def at(*means: float) -> float | None:
        found = log_crossing(pd.DataFrame([means] * 3, columns=[10.0, 100.0, 1000.0]))
        return None if found is None else found.mean

    assert at(-1, 1, 2) == pytest.approx(10**1.5)
    assert at(-2, -1, 0) == pytest.approx(1000)
    assert at(0.5, -1, 2) == 10
    assert at(-3, -2, -1) is None


def test_a_table_shows_the_columns_that_all_cells_hold() -> None:
    cells = {"a": rows([1, 2], [20.0, 21.0]).assign(lpips=0.1), "b": rows([1, 2], [22.0, 23.0])}
    html = means_table(cells, ("psnr", "lpips", "nfe"), "start", "Means", {"edge": ["yes", "no"]})
    assert "PSNR, dB" in html
    assert "LPIPS" not in html
    assert "20.50" in html
    assert "<td>yes</td>" in html


def test_a_tables_columns_have_the_decimals_of_their_quantity() -> None:
    html = table({"a": {"SSIM gained": 0.12345, "share": 0.12345, "NFE, %": 1.25}}, "run", {"NFE, %": 0})
    assert [cell in html for cell in (">0.123<", ">0.12<", ">1<")] == [True] * 3
