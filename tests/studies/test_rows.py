import numpy as np
import pandas as pd
import pytest
from synthetic_robustness import make_results

from studies._rows import cell_rows, difference, has_column, intervals, log_crossing, lost, means_table, over_images
from workbench.config import UserError
from workbench.metrics import mean_interval

RESULTS = make_results(8)


def rows(ids: list[int], psnr: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"psnr": psnr, "nfe": psnr}, index=pd.Index(ids, name="image_id"))


def test_a_cell_is_found_by_its_labels() -> None:
    cell = cell_rows(RESULTS, encoder="mixture", degradation="gaussian_blur")
    assert cell is not None
    assert cell.index.is_monotonic_increasing
    expected = RESULTS.frame.query("encoder == 'mixture' and degradation == 'gaussian_blur'").set_index("image_id")
    pd.testing.assert_frame_equal(cell, expected.sort_index())
    assert cell_rows(RESULTS, encoder="mixture", degradation="haze") is None


def test_labels_that_do_not_name_one_cell_are_refused() -> None:
    with pytest.raises(UserError, match="4 cells are called mixture"):
        cell_rows(RESULTS, encoder="mixture")
    with pytest.raises(UserError, match="no axis colour; they have: encoder, degradation"):
        cell_rows(RESULTS, colour="red")


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
        found = log_crossing([10.0, 100.0, 1000.0], [pd.Series([mean] * 3) for mean in means])
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
