"""What a study is made of and what it found: cells, and their results joined."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from workbench.config import digest
from workbench.stages.base import Stage
from workbench.stages.runtime import Runtime

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

TUNING = "tuning.json"
"""The file in a study's folder that says what `tune` found."""
TOO_SMALL = (
    "This is a smoke run: it shows that everything works, on a few images and with networks trained for seconds. It is "
    "too small to conclude from; no figure here says anything about the question."
)


@dataclass(frozen=True)
class Cell:
    """One grid point: a stage and its labels by axis."""

    stage: Stage
    labels: Mapping[str, str]

    @cached_property
    def identity(self) -> str:
        """The stage's, made once: to make it, all that stands upstream is looked up among the weights that ship."""
        return self.stage.identity

    def is_cached(self, runtime: Runtime) -> bool:
        """Whether the stage's artifact is there."""
        here = runtime.root / "stages" / self.stage.name / self.identity
        return here.is_dir() or self.stage.shipped() is not None


@dataclass(frozen=True)
class StudyResults:
    """What a study found.

    Attributes:
        name, preset: which study.
        question: the study's docstring.
        command: how to reproduce.
        axes: axis column -> its labels in order.
        frame: one row per image and cell, with the axes' columns and `cell`; for cells without images ("image_id"
            is no column) whatever their stage writes.
        examples: cell id -> arrays by name, (n, height, width, channel) on [0, 1], and "image_id"; none of such cells.
        provenance: how it was made.
        notes: what a reader should know (what is absent, and why).
        evidence: what the report needs beside rows, as JSON; "tuning" is what `tune` found.
    """

    name: str
    preset: str
    question: str
    command: str
    axes: dict[str, list[str]]
    frame: "pd.DataFrame"
    examples: dict[str, dict[str, "np.ndarray"]]
    provenance: dict[str, Any]
    notes: list[str]
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def num_images(self) -> int:
        """How many different images the rows are of; 0 where they are not of images."""
        return int(self.frame["image_id"].nunique()) if "image_id" in self.frame else 0

    @property
    def too_small(self) -> str:
        """That nothing can be concluded from a smoke run, as a sentence; empty for other presets."""
        return TOO_SMALL if self.preset == "smoke" else ""

    @property
    def identity(self) -> str:
        """Names the results by their cells."""
        return digest(sorted(self.examples))
