import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from workbench.core.config import UserError
from workbench.metrics import Estimate
from workbench.reporting import dendrogram, labelled_scatter, point_map, readable, svg
from workbench.reporting.maps import _label_points

DISTANCES = np.array([[0, 1, 4, 5], [1, 0, 4, 5], [4, 4, 0, 6], [5, 5, 6, 0.0]])
NAMES = ["first_one", "second", "third", "fourth"]
LINE = [Estimate(1.0, 0.5, 1.5, 9), Estimate(2.0, math.nan, math.nan, 1), Estimate(math.nan, math.nan, math.nan, 0)]


def texts(figure) -> list[str]:
    root = ElementTree.fromstring(svg(figure, "what it shows"))
    return ["".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")]


def boxes_of(figure) -> list[Bbox]:
    """Where the labels of the figure's points stand, without the lines that lead to them."""
    figure.draw_without_rendering()
    return [Text.get_window_extent(text) for text in figure.axes[-1].texts]


@pytest.mark.parametrize("n", [2, 3, 4])
def test_dendrogram_names_its_leaves_and_joins_at_their_distance(n: int) -> None:
    figure = dendrogram(DISTANCES[:n, :n], NAMES[:n], title="A title", unit="distance")
    assert {*map(readable, NAMES[:n]), "A title", "distance"} <= set(texts(figure))
    ends = sorted(max(line.get_xdata()) for line in figure.axes[-1].lines)
    assert ends == pytest.approx([1, 4, 16 / 3][: n - 1])


def test_dendrogram_puts_what_joins_first_side_by_side() -> None:
    labels = texts(dendrogram(DISTANCES, NAMES, title="t", unit="u"))
    labels = [label for label in labels if label in ("first one", *NAMES)]
    assert abs(labels.index("first one") - labels.index("second")) == 1


def test_dendrogram_refuses_what_does_not_belong_together() -> None:
    with pytest.raises(UserError, match="3 names"):
        dendrogram(DISTANCES, NAMES[:3], title="t", unit="u")
    with pytest.raises(UserError, match="1 names"):
        dendrogram(np.zeros((1, 1)), ["a"], title="t", unit="u")


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("points", [[[0, 0], [4, 1], [-3, 2]], [[-1, 0], [1, 0]], [[0, 0], [0, 0]]])
def test_a_map_has_one_scale_and_holds_every_point(points, scale: float) -> None:
    points = scale * np.array(points, float)
    figure = point_map(points, NAMES[: len(points)], title="t", unit="u")
    assert set(map(str, ["first one", "second"])) <= set(texts(figure))
    axes = figure.axes[-1]
    pixels = axes.transData.transform([[0, 0], [scale, 0], [0, scale]])
    assert np.linalg.norm(pixels[1] - pixels[0]) == pytest.approx(np.linalg.norm(pixels[2] - pixels[0]))
    for low, high, values in ((*axes.get_xlim(), points[:, 0]), (*axes.get_ylim(), points[:, 1])):
        assert low < values.min() <= values.max() < high


def test_scatter_writes_every_label_inside() -> None:
    rng = np.random.default_rng(0)
    labels = [f"A{i}→B{i}" for i in range(30)]
    y = [Estimate(v, v - 0.1, v + 0.1, 9) for v in rng.normal(size=30)]
    figure = labelled_scatter(rng.uniform(size=30), y, labels, title="t", x_label="x", y_label="y")
    assert set(labels) <= set(texts(figure))
    frame = figure.axes[-1].get_window_extent()
    for box in boxes_of(figure):
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1


def test_labels_avoid_each_other() -> None:
    """Eight points close together: no two labels share more than a sliver."""
    figure = Figure(figsize=(5, 5))
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    _label_points(axes, np.array([[0.5 + 0.03 * i, 0.5 + 0.05 * (i % 3)] for i in range(8)]), ["AB→CD"] * 8, size=7)
    boxes = boxes_of(figure)
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            across = min(a.x1, b.x1) - max(a.x0, b.x0)
            up = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert min(across, up) < 0.3 * a.height


def test_small_text_is_never_smaller_than_ten_pixels() -> None:
    for figure in (
        dendrogram(DISTANCES, NAMES, title="t", unit="u"),
        point_map(np.eye(2), NAMES[:2], title="t", unit="u"),
        labelled_scatter([0, 1, 2], LINE[:1] * 3, ["a", "b", "c"], title="t", x_label="x", y_label="y"),
    ):
        sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg(figure, "d"))]
        assert min(sizes) >= 10


def test_how_many_images_is_said() -> None:
    figure = labelled_scatter([0, 1], LINE[:2], ["a", "b"], title="t", x_label="x", y_label="loss")
    assert "loss, n = 1 to 9 images" in texts(figure)
