import pandas as pd
import pytest

from studies._rows import cell_rows, difference, has_column, lost, over_images
from tests.synthetic_study import make_results
from workbench.config import UserError

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
