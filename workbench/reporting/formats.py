"""Formatting of numbers, intervals, counts and lists in sentences, figures and tables."""

import math
from collections.abc import Iterable, Sequence

from workbench.metrics import Estimate


def number(value: float, decimals: int) -> str:
    """`value` for readers: a true minus sign, no negative zero, "n/a" for NaN."""
    if math.isnan(value):
        return "n/a"
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def spoken(estimate: Estimate, decimals: int, unit: str = "") -> str:
    """An estimate in a sentence: "2.50 [2.31, 2.70]"; the unit, if given, follows the mean."""
    interval = f" [{number(estimate.low, decimals)}, {number(estimate.high, decimals)}]"
    return number(estimate.mean, decimals) + unit + ("" if math.isnan(estimate.low) else interval)


def signed(estimate: Estimate, decimals: int, unit: str = "") -> str:
    """A gain or a loss in a sentence: "+0.31 [0.21, 0.41]", with the sign at the mean."""
    plus = "+" if round(estimate.mean, decimals) > 0 else ""
    return plus + spoken(estimate, decimals, unit)


def p_value(p: float) -> str:
    """A p-value in a sentence, with as many decimals as it needs to differ from 0."""
    return number(p, 4 if p < 0.01 else 3)


def percent(part: Estimate, decimals: int = 0) -> str:
    """A fraction in a sentence: "91 % [89, 92]"."""
    return spoken(part.scaled(100), decimals, " %")


def ranged(values: Sequence[float], decimals: int) -> str:
    """The minimum and the maximum: "0.98 to 1.03"; one number if they round to the same."""
    low, high = number(min(values), decimals), number(max(values), decimals)
    return low if low == high else f"{low} to {high}"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def image_count(estimates: Iterable[Estimate]) -> str:
    """The number of images of estimates: "n = 128 images", "n = 96 to 128 images"; empty if there are none."""
    counts = {estimate.num_images for estimate in estimates if estimate.num_images}
    if not counts:
        return ""
    low, high = min(counts), max(counts)
    unit = "image" if high == 1 else "images"
    return f"n = {low} {unit}" if low == high else f"n = {low} to {high} {unit}"
