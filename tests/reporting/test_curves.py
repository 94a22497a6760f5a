import math
import re
from xml.etree import ElementTree

import pytest

from workbench.core.config import UserError
from workbench.metrics import Estimate
from workbench.reporting import Line, curves, severity_lines, svg
from workbench.reporting.curves import _colour, _marker
from workbench.reporting.figures import _TITLE, _WIDTH

LINE = [Estimate(1.0, 0.5, 1.5, 9), Estimate(2.0, math.nan, math.nan, 1), Estimate(math.nan, math.nan, math.nan, 0)]
EDGES = [0, 1 / 3, 2 / 3, 1]


def texts(figure) -> list[str]:
    root = ElementTree.fromstring(svg(figure, "what it shows"))
    return ["".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")]


def drawn(panels, **settings):
    return curves(panels, **{"title": "A title", "x_label": "NFE", "y_label": "dB", **settings})


@pytest.mark.parametrize(
    "panels",
    [
        {"": {"mean": LINE}},
        {"one": {"a": LINE, "b": LINE}, "two": {"b": LINE}, "three": {"c": LINE}},
        {"": {"nothing": [Estimate(math.nan, math.nan, math.nan, 0)] * 3}},
    ],
)
def test_lines_are_drawn_with_what_there_is(panels) -> None:
    placed = {
        panel: {name: Line([1, 20, 300], line) for name, line in lines.items()} for panel, lines in panels.items()
    }
    for figure, axis in (
        (severity_lines(panels, EDGES, title="A title", y_label="dB", threshold=0.5), "severity"),
        (drawn(placed), "NFE"),
        (drawn(placed, log_x=True), "NFE"),
    ):
        words = texts(figure)
        assert {"A title", "dB", axis} <= set(words)
        assert {panel for panel in panels if panel} <= set(words)
        assert not any("nan" in word.lower() for word in words)


def test_small_text_is_never_smaller_than_ten_pixels() -> None:
    panels = {"one": {"a": LINE, "b": LINE}, "two": {"b": LINE}}
    placed = {panel: {name: Line([1, 2, 3], line) for name, line in lines.items()} for panel, lines in panels.items()}
    for figure in (
        severity_lines(panels, EDGES, title="t", y_label="y"),
        drawn(placed, x_marks={"here": 2}, y_marks={"there": 1}),
    ):
        sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg(figure, "d"))]
        assert min(sizes) >= 10


def test_a_long_title_is_broken_into_lines_that_fit() -> None:
    title = "Gaussian blur encoder, trained at noise 0.05, on gaussian blur with noise of several strengths"
    words = texts(drawn({"": {"a": Line([1, 2, 3], LINE)}}, title=title))
    lines = [word for word in words if len(word) > 1 and word in title]
    assert " ".join(lines) == title
    assert max(len(line) for line in lines) * 0.62 * _TITLE <= _WIDTH


def test_how_many_images_is_said() -> None:
    assert "n = 1 to 9 images a bin" in texts(severity_lines({"": {"mean": LINE}}, EDGES, title="t", y_label="y"))
    assert "n = 1 to 9 images" in texts(drawn({"": {"a": Line([0, 1, 2], LINE)}}))


def test_a_name_keeps_its_colour_between_figures() -> None:
    order = ["a", "b", "c"]
    for names in (["b"], ["c", "b"]):
        placed = {"": dict.fromkeys(names, Line([1, 2, 3], LINE))}
        for figure in (
            severity_lines({"": dict.fromkeys(names, LINE)}, EDGES, title="t", y_label="y", order=order),
            drawn(placed, order=order),
        ):
            found = {line.get_color() for line in figure.axes[-1].lines if line.get_marker() == _marker(1)}
            assert found == {_colour(1)}


def test_many_names_are_told_apart() -> None:
    assert len({(_colour(i), _marker(i)) for i in range(64)}) == 64


def test_points_stand_at_their_positions_with_their_intervals() -> None:
    axes = drawn({"": {"a": Line([2, 50, 900], LINE)}}, log_x=True).axes[-1]
    interval, points = axes.lines
    assert (list(interval.get_xdata()), list(interval.get_ydata())) == ([2, 2], [0.5, 1.5])
    assert list(points.get_xdata()) == [2, 50, 900]
    assert axes.get_xscale() == "log"
    assert axes.get_xlim()[0] < 2
    assert axes.get_xlim()[1] > 900


def test_panels_share_their_axes_and_hold_the_marks() -> None:
    panels = {"one": {"a": Line([1, 2, 3], LINE)}, "two": {"a": Line([10, 20, 30], LINE)}}
    figure = drawn(panels, x_marks={"the match": 40}, y_marks={"the_ceiling": 9, "": 8}, zero=True)
    one, two = figure.axes[1:]
    assert one.get_xlim() == two.get_xlim()
    assert one.get_ylim() == two.get_ylim()
    assert one.get_xlim()[1] > 40
    assert one.get_ylim()[0] < 0
    assert one.get_ylim()[1] > 9
    assert {"the match", "the ceiling"} <= set(texts(figure))


def test_names_of_marks_that_stand_close_are_printed_over_neither_each_other_nor_a_line() -> None:
    marks = {"one": 30.0, "another": 30.1, "third": 30.3, "far": 21.0}
    figure = drawn({"": {"a": Line([20, 25, 35], LINE)}}, x_marks=marks)
    axes = figure.axes[1]
    found = {text.get_text(): text for text in axes.texts}
    boxes = [found[name].get_window_extent() for name in marks]
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])
    dashed = [line.get_window_extent() for line in axes.lines if line.get_linestyle() == "--"]
    assert len(dashed) == len(marks)
    assert not any(box.x0 < line.x0 < box.x1 and box.y0 < line.y1 for box in boxes for line in dashed)
    one, another, third, far = (found[name].xyann[1] for name in marks)
    assert far == one == another > third, "one stands to the left of its line, where there is room"
    highest = axes.transData.transform((0, max(estimate.high for estimate in LINE)))[1]
    assert highest < boxes[2].y0, "names that were moved down are above the data"


def test_the_name_of_a_mark_at_the_end_stays_in_the_panel() -> None:
    figure = drawn({"": {"a": Line([20, 25, 35], LINE)}}, x_marks={"a long name of something": 35.0})
    axes = figure.axes[1]
    (text,) = axes.texts
    assert text.get_window_extent().x1 <= axes.get_window_extent().x1


def test_numbers_on_the_axes_are_plain() -> None:
    words = texts(drawn({"": {"a": Line([-9, 0, 15], LINE)}}))
    assert {"\N{MINUS SIGN}5", "0", "15"} <= set(words)
    words = texts(drawn({"": {"a": Line([1, 30, 1000], LINE)}}, log_x=True))
    assert {"1", "10", "100", "1000"} <= set(words)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(UserError, match="positive positions, got 0"):
        drawn({"": {"a": Line([0, 1, 2], LINE)}}, log_x=True)
    with pytest.raises(UserError, match="got 2 and 3"):
        Line([1, 2], LINE)
