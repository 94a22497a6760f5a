"""Calibrations of groups of images as JSON, and back."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.metrics.calibration.families import Fit
from workbench.metrics.calibration.summary import Calibration, Curve
from workbench.metrics.statistics import Estimate

FILE = "calibration.json"
"""The name of a stage's calibration file."""
ALL = "all"
"""The group of all images."""
DIGITS = 6
"""Number of significant digits that are stored."""


def as_json(groups: Mapping[str, Calibration]) -> str:
    """The calibration of each group by name."""
    return json.dumps({name: _plain(group) for name, group in groups.items()}, separators=(",", ":"))


def from_json(text: str) -> dict[str, Calibration]:
    """Read the result of `as_json`.

    Raises:
        ValueError: for any other text.
    """
    return {name: from_plain(group) for name, group in json.loads(text).items()}


def from_plain(group: Any) -> Calibration:
    """A calibration from its JSON representation.

    Raises:
        ValueError: for anything else.
    """
    try:
        num = group["num_images"]
        return Calibration(
            num_images=num,
            figures={name: _estimate(ends, num) for name, ends in group["figures"].items()},
            floors={name: _number(value) for name, value in group["floors"].items()},
            p_values={name: _number(value) for name, value in group["p_values"].items()},
            curves={
                name: Curve(np.array(curve["x"], dtype=np.float64), tuple(_estimate(ends, num) for ends in curve["y"]))
                for name, curve in group["curves"].items()
            },
            fits={name: Fit(**fit) for name, fit in group["fits"].items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is not a calibration ({type(error).__name__}: {error})") from None


def _plain(found: Calibration) -> dict[str, Any]:
    return {
        "num_images": found.num_images,
        "figures": {name: _ends(value) for name, value in found.figures.items()},
        "floors": {name: _rounded(value) for name, value in found.floors.items()},
        "p_values": {name: _rounded(value) for name, value in found.p_values.items()},
        "curves": {
            name: {"x": [_rounded(x) for x in curve.x.tolist()], "y": [_ends(value) for value in curve.estimates]}
            for name, curve in found.curves.items()
        },
        "fits": {
            name: {key: _rounded(value) if isinstance(value, float) else value for key, value in vars(fit).items()}
            for name, fit in found.fits.items()
        },
    }


def _ends(value: Estimate) -> list[float | None]:
    return [_rounded(number) for number in (value.mean, value.low, value.high)]


def _estimate(ends: list[float | None], num_images: int) -> Estimate:
    mean, low, high = map(_number, ends)
    return Estimate(mean, low, high, num_images)


def _rounded(value: float) -> float | None:
    """None represents NaN, which JSON does not have."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else value
