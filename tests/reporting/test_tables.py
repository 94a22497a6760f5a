import dataclasses
import io
import math
import re

import pandas as pd
import pytest
from rich.console import Console
from synthetic_robustness import make_results

from workbench.metrics import Estimate
from workbench.reporting import (
    column_estimate,
    html_table,
    image_count,
    listed,
    number,
    percent,
    rich_table,
    spoken,
    terminal_table,
)
from workbench.reporting.labels import readable


@pytest.fixture
def frame() -> pd.DataFrame:
    rows = [[Estimate(-1.5, -2.0, -1.0, 8), 3.14159, "<x>"], [Estimate(1.0, math.nan, math.nan, 1), math.nan, 7]]
    return pd.DataFrame(rows, index=["first", "second"], columns=["loss", "time", "note"])


def text_of(table) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(table)
    return console.file.getvalue()


def test_html_table(frame: pd.DataFrame) -> None:
    html = html_table(frame, {"time": 1}, caption="A & B")
    assert "−1.50<small>−2.00 to −1.00</small>" in html
    assert ">3.1<" in html
    assert ">1.00</td>" in html
    assert ">n/a</td>" in html
    assert "&lt;x&gt;" in html
    assert "<x>" not in html
    assert "A &amp; B" in html


def test_cells_sort_by_their_unrounded_figures(frame: pd.DataFrame) -> None:
    html = html_table(frame, 0)
    assert 'data-value="3.14159">3<' in html
    assert 'data-value="-1.5"' in html
    assert 'data-value="nan">n/a' in html
    assert "<td>&lt;x&gt;</td>" in html


@pytest.mark.parametrize(
    ("counts", "note", "column", "in_cells"),
    [
        ([[8, 8], [8, 0]], "n = 8 images", False, 0),
        ([[8, 8], [4, 4]], "", True, 0),
        ([[8, 4], [8, 4]], "", False, 4),
    ],
    ids=["one for all", "one a row", "one a cell"],
)
def test_every_estimate_says_how_many_images(counts, note: str, column: bool, in_cells: int) -> None:
    rows = [[Estimate(1.0, 0.0, 2.0, n) for n in line] for line in counts]
    html = html_table(pd.DataFrame(rows, columns=["a", "b"]))
    assert re.findall("<p class=.note.>(.*?)</p>", html) == ([note] if note else [])
    assert ("<th scope=col>n</th>" in html) == column
    assert html.count(", n = ") == in_cells
    if column:
        assert 'data-value="8.0">8<' in html


def test_image_count() -> None:
    def estimates(*counts: int) -> list[Estimate]:
        return [Estimate(0.0, 0.0, 0.0, n) for n in counts]

    assert image_count(estimates(5, 0, 5)) == "n = 5 images"
    assert image_count(estimates(1)) == "n = 1 image"
    assert image_count(estimates(7, 3)) == "n = 3 to 7 images"
    assert image_count(estimates(0)) == ""


def test_rich_table(frame: pd.DataFrame) -> None:
    text = text_of(rich_table(frame, "Title", 1))
    assert "-1.5 [-2.0, -1.0]" in text
    assert "n/a" in text
    assert "Title" in text


@pytest.mark.parametrize(("value", "text"), [(-0.001, "0.00"), (-1.0, "−1.00"), (math.nan, "n/a"), (2.346, "2.35")])
def test_number(value: float, text: str) -> None:
    assert number(value, 2) == text


def test_estimates_and_names_in_a_sentence() -> None:
    estimate = Estimate(-0.914, -1.0, 0.125, 8)
    assert spoken(estimate, 2) == "−0.91 [−1.00, 0.12]"
    assert spoken(estimate, 1, " dB") == "−0.9 dB [−1.0, 0.1]"
    assert percent(estimate) == "−91 % [−100, 12]"
    assert percent(Estimate(0.5, math.nan, math.nan, 1)) == "50 %"
    assert [listed(list(names)) for names in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]


def test_column_estimate_is_in_the_shown_unit() -> None:
    frame = make_results(8).frame
    assert column_estimate(frame, "seconds").mean == pytest.approx(1000 * frame["seconds"].mean())


def test_terminal_table_has_a_line_a_cell_in_the_order_of_the_axes() -> None:
    results = make_results(8)
    table = terminal_table(results)
    lines = [line for line in text_of(table).splitlines() if line.startswith("│")]
    assert table.row_count == len(lines) == 20
    expected = [(readable(e), readable(d)) for e in results.axes["encoder"] for d in results.axes["degradation"]]
    shown = [tuple(cell.strip() for cell in line.split("│")[1:3]) for line in lines]
    assert shown == expected
    first = results.frame[results.frame["cell"] == results.frame["cell"].iloc[0]]
    assert f"{first['psnr'].mean():.2f} [" in lines[0]


def test_terminal_table_leaves_out_what_was_not_measured() -> None:
    results = make_results(8)
    text = text_of(terminal_table(dataclasses.replace(results, frame=results.frame.drop(columns="lpips"))))
    assert "LPIPS" not in text
    assert "SSIM" in text


def test_terminal_table_of_many_axes_names_a_cell_in_one_column() -> None:
    results = make_results(8)
    same = {"start": "full", "timestep": "full", "eta": "0.0"}
    axes = {**results.axes, **{name: [label] for name, label in same.items()}}
    table = terminal_table(dataclasses.replace(results, frame=results.frame.assign(**same), axes=axes))
    assert table.columns[0].header == "cell"
    assert table.row_count == 20
    assert "Gaussian noise, random inpainting, full, 0.0 " in text_of(table), "no label twice"
