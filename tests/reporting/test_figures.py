import io
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from workbench.core.config import UserError
from workbench.metrics import Estimate
from workbench.reporting import distributions, heat_map, png, position_maps, svg
from workbench.reporting.figures import _colours, _contrast

MATRIX = [
    [Estimate(23.81, 23.5, 24.12, 9), Estimate(-1.0, -2.0, 0.5, 9)],
    [Estimate(2.0, math.nan, math.nan, 1), Estimate(math.nan, math.nan, math.nan, 0)],
]


def texts(drawing: str) -> list[str]:
    root = ElementTree.fromstring(drawing)
    return ["".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("scale", ["sequential", "diverging", "ratio"])
def test_heat_map_writes_every_figure_and_interval(scale) -> None:
    figure = heat_map(MATRIX, ["first_row", "second"], ["left", "right"], title="A title", scale=scale)
    words = texts(svg(figure, "what it shows"))
    for expected in ("23.81", "23.50 to 24.12", "−1.00", "2.00", "n/a", "left", "A title"):
        assert expected in words
    assert not any("nan" in word for word in words)


def test_heat_map_refuses_another_shape() -> None:
    with pytest.raises(UserError, match="2 rows x 1 columns"):
        heat_map(MATRIX, ["a", "b"], ["c"], title="t")


def test_heat_map_of_constants_and_of_nothing_is_drawn() -> None:
    for cell in (Estimate(0.0, 0.0, 0.0, 4), Estimate(math.nan, math.nan, math.nan, 0)):
        for scale in ("sequential", "diverging", "ratio"):
            assert svg(heat_map([[cell]], ["a"], ["b"], title="t", scale=scale), "d")


def test_red_marks_the_bad_end() -> None:
    values = np.array([[-1.0, 1.0]])
    high, low = _colours(values, "diverging", None, "high"), _colours(values, "diverging", None, "low")
    assert high[0, 1, 0] > high[0, 1, 2]
    assert low[0, 0, 0] > low[0, 0, 2]
    ratio = _colours(np.array([[0.1, 1.0, 10.0]]), "ratio", None, "high")[0]
    assert ratio[0, 2] > ratio[0, 0]
    assert ratio[1, :3].min() > 0.9
    assert ratio[2, 0] > ratio[2, 2]


@pytest.mark.parametrize("scale", ["sequential", "diverging"])
def test_text_in_cells_can_be_read_on_every_colour(scale) -> None:
    def luminance(colour) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in _colours(np.linspace(-1, 1, 41)[None], scale, None, "high")[0]:
        ink = 0.0 if _contrast(colour) == "black" else 1.0
        bright, dark = max(luminance(colour), ink), min(luminance(colour), ink)
        assert (bright + 0.05) / (dark + 0.05) >= 4.5


def test_svg_takes_the_pages_colour_and_is_the_same_every_time() -> None:
    drawings = [svg(heat_map(MATRIX, ["a", "b"], ["c", "d"], title="t"), 'a "quoted" <name>') for _ in range(2)]
    assert drawings[0] == drawings[1]
    assert "currentColor" in drawings[0]
    assert "<metadata" not in drawings[0]
    assert "<style" not in drawings[0]
    figure = ElementTree.fromstring(drawings[0])[0]
    assert figure.get("aria-label") == 'a "quoted" <name>'
    assert figure.get("role") == "img"


def test_cells_are_shapes_and_link_where_they_are_told_to() -> None:
    links = {(0, 0): "#one&two", (1, 1): "#three"}
    drawing = svg(heat_map(MATRIX, ["first_row", "b"], ["c", "d"], title="t", links=links), "d")
    root = ElementTree.fromstring(drawing)
    found = list(root.iter("{http://www.w3.org/2000/svg}a"))
    assert [link.get("href") for link in found] == ["#one&two", "#three"]
    assert [link[0].text for link in found] == ["first row, c: 23.81 [23.50 to 24.12], n = 9", "b, d: n/a, n = 0"]
    assert root[0].get("role") == "group", "an image has no parts"
    assert not list(root.iter("{http://www.w3.org/2000/svg}image"))


def test_heat_map_says_how_many_images() -> None:
    assert "n = 1 to 9 images" in texts(svg(heat_map(MATRIX, ["a", "b"], ["c", "d"], title="t"), "d"))


def test_small_text_is_never_smaller_than_ten_pixels_at_the_figures_own_width() -> None:
    wide = [[Estimate(-1.234, -2.345, 3.456, 9)] * 9]
    for figure in (
        heat_map(wide, ["a"], list("bcdefghij"), title="a title that is long " * 9, decimals=3),
        distributions({"one": {"a": [1, 2]}, "two": {"a": [1, 3]}}, title="t", unit="u"),
    ):
        drawing = svg(figure, "d")
        assert min(float(size) for size in re.findall(r"font-size: ([\d.]+)px", drawing)) >= 10
        width = re.search(r"--w:(\d+)", drawing)
        box = re.search(r'viewBox="0 0 ([\d.]+)', drawing)
        assert width is not None
        assert box is not None
        assert float(width[1]) == pytest.approx(float(box[1]), abs=1)


def test_position_maps_name_their_panels_and_say_the_range() -> None:
    panels = {"first_panel": np.array([[0.5, 1.0], [1.0, 2.0]]), "second": np.full((3, 3), 1.0)}
    drawing = svg(position_maps(panels, title="A title", scale="ratio", span=4.0), "d")
    words = texts(drawing)
    for expected in ("A title", "first panel", "0.50 to 2.00", "second", "1.00 to 1.00"):
        assert expected in words
    fills = re.findall(r"fill: (#[0-9a-f]{6})", drawing)
    assert len(fills) >= 4 + 9
    assert len({*fills}) == 3, "0.5, 1 and 2: one scale of colours for both"


def test_png_is_a_picture() -> None:
    assert Image.open(io.BytesIO(png(heat_map(MATRIX, ["a", "b"], ["c", "d"], title="t")))).format == "PNG"


def test_distributions_hold_for_constant_groups_and_missing_ones() -> None:
    panels = {"one": {"a": [5, 5, 5], "b": [1, 2, 9]}, "two": {"a": [3.0]}}
    assert {"one", "two", "a", "b"} <= set(texts(svg(distributions(panels, title="t", unit="NFE"), "d")))
    assert svg(distributions({"one": {"a": [5, 5]}}, title="t", unit="NFE"), "d")
