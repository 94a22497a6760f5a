"""Pages say which images their rows are of."""

from dataclasses import replace
from typing import Any

import pytest
from synthetic_robustness import make_results

from workbench.reporting import described_images, picture_strip, terminal_table

PHOTOGRAPHS = {"kind": "tiny_imagenet", "size": 64, "channels": 3}


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ({"data": PHOTOGRAPHS, "split": "test"}, "Tiny ImageNet, 64 x 64, colour, test split"),
        ({"data": {"kind": "fashion_mnist", "size": 32, "channels": 1}}, "Fashion-MNIST, 32 x 32, greyscale"),
        ({"data": {"kind": "npy", "size": [48, 64], "channels": 5}}, "npy, 48 x 64, 5 channels"),
        ({"data": {"kind": "mine.py:Lensless", "size": 32, "channels": 3}}, "Lensless, 32 x 32, colour"),
        ({}, ""),
    ],
)
def test_in_words(cell: dict[str, Any], text: str) -> None:
    assert described_images(replace(make_results(), provenance={"cell": cell})) == text


def test_where_cells_differ_nothing_is_said() -> None:
    results = replace(make_results(), provenance={"cell": {"data": PHOTOGRAPHS}})
    assert described_images(replace(results, axes={**results.axes, "data": ["a", "b"]})) == ""


def test_under_the_pictures_and_above_the_table() -> None:
    results = replace(make_results(), provenance={"cell": {"data": PHOTOGRAPHS, "split": "test"}})
    assert "Tiny ImageNet, 64 x 64, colour, test split. " in picture_strip(results)
    assert str(terminal_table(results).title).endswith(": Tiny ImageNet, 64 x 64, colour, test split")
