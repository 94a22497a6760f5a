"""What studies share of their cells: the encoder trained for the degradation, and a size that takes seconds."""

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.degradations import Degradation
from workbench.experiments.study import Axes

TINY: Mapping[str, Any] = {
    "num_images": 4,
    "severity_encoder.num_train_images": 128,
    "severity_encoder.batch_size": 32,
}
"""Overrides of a run of seconds: too few images and too little training to learn anything from."""
SMOKE: Mapping[str, Any] = {**TINY, "sampler.num_steps": 50}


def matched(degradation: Degradation, **axes: Sequence[object]) -> Axes:
    """Cells of the encoder that was trained for the degradation; `__` in a name stands for a dot."""
    pair = {"severity_encoder.degradation": (degradation,), "degradation": (degradation,)}
    return {**pair, **{name.replace("__", "."): values for name, values in axes.items()}}
