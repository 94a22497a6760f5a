"""Fit what one more evaluation is worth by variance, on validation images restored with every candidate number."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from workbench.core.config import UserError
from workbench.severity.start import Allocated, Allocation, Curves, MissingNoise
from workbench.severity.start.allocated import LEAST, Predictor, numbers_of
from workbench.stages.base import Stage
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.measure.trivial import RESIDUAL
from workbench.stages.rows import OPERATOR, ROWS
from workbench.stages.runtime import Runtime

ALLOCATION = "allocation.json"
COLUMNS: Mapping[Predictor, str] = {"variance": "start_variance", "residual": RESIDUAL}
"""The rows' columns of the predictors that are numbers."""


class FitAllocation(Stage):
    """Restored validation images -> `Allocation`.

    The curves serve every budget and metric: their cells are evaluated once.
    """

    name: ClassVar[str] = "fit_allocation"
    version: ClassVar[int] = 1
    artifact_type: ClassVar[str] = "model"
    seconds_per_effort: ClassVar[float] = 0.01

    cell: Evaluate = Field(description="the evaluation of validation images, with any start")
    rule: Allocated

    @classmethod
    def of(cls, cell: Evaluate, rule: Allocated) -> "FitAllocation":
        """The fit for a cell with an allocated start."""
        fields = {name: getattr(cell, name) for name in Evaluate.model_fields}
        fields |= {"start": rule.of, "split": "val", "num_images": rule.num_val_images, "sample": 0, "num_examples": 0}
        return cls(cell=Evaluate(**fields), rule=rule)

    @property
    def label(self) -> str:
        return f"what evaluations are worth on {self.cell.degradation.kind}, {self.cell.solver.kind}"

    def effort(self) -> float:
        return 1.0

    def cells(self) -> tuple[Evaluate, ...]:
        """The validation images with each candidate number of evaluations."""
        return tuple(
            self.cell.replace({"start": MissingNoise(nfe=nfe, of=self.rule.of)}) for nfe in self.rule.candidates
        )

    def upstream(self) -> tuple[Stage, ...]:
        return self.cells()

    def check(self) -> None:
        """Refuse a metric that the rows will not have, or too few validation images. Raises UserError."""
        _ = self.sign
        self.cell.data.split("val").first(self.cell.num_images)

    @property
    def sign(self) -> float:
        """1 if the metric is to be maximized, -1 if minimized.

        Raises:
            UserError: for a column that no metric of the cell fills, or of which neither direction is better.
        """
        columns = {name: better for metric in self.cell.metrics for name, better in metric.columns.items()}
        directed = [name for name, better in columns.items() if better is not None]
        if self.rule.metric not in directed:
            raise UserError(
                f"start.metric={self.rule.metric} is no column with a better direction; the cell's metrics have: "
                f"{', '.join(directed)}"
            )
        return 1.0 if columns[self.rule.metric] == "higher" else -1.0

    def load(self, runtime: Runtime) -> Allocation:
        """Load the fitted allocation."""
        return Allocation.model_validate_json((self.ensure(runtime) / ALLOCATION).read_text())

    def work(self, folder: Path, runtime: Runtime) -> None:
        import pandas as pd

        frames = [pd.read_parquet(cell.ensure(runtime) / ROWS) for cell in self.cells()]
        if self.rule.metric not in frames[0]:
            raise UserError(f"start.metric={self.rule.metric} is absent from the rows: its weights were not found")
        quality = self.sign * np.stack([frame[self.rule.metric].to_numpy(dtype=float) for frame in frames], axis=1)
        columns = [COLUMNS[name] for name in numbers_of(self.rule.predictors)]
        x = np.log(frames[0][columns].to_numpy(dtype=float).clip(LEAST))
        told_apart = "operator" in self.rule.predictors and OPERATOR in frames[0]
        operator = frames[0][OPERATOR].to_numpy() if told_apart else np.zeros(len(x), dtype=np.int64)
        curves = Curves.fit(self.rule.candidates, x, operator, quality, self.rule.degree)
        (folder / ALLOCATION).write_text(Allocation.fit(curves, x, operator, self.rule.budget).model_dump_json())
