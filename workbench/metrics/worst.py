"""The quality assigned to images without one, because their chain diverged."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

WORST: Mapping[str, float] = {"psnr": 0.0, "lpips": 1.0, "dists": 1.0}
"""On [0, 1], no PSNR is below 0 dB."""


def with_worst(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The rows with the worst quality if there is none: a mean without diverged images would reward losing them."""
    import numpy as np

    present = {name: worst for name, worst in WORST.items() if name in rows}
    return rows.assign(**{name: rows[name].where(np.isfinite(rows[name]), worst) for name, worst in present.items()})
