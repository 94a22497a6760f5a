"""Evaluate with a solver's step size chosen on validation images.

Runs of different kinds (solvers, starts, numbers of steps) need different guidance, and a comparison is fair if each
has the same number of trials. Trials and the final run are Evaluate cells, so studies share them.
"""

import json
import math
import shutil
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import ClassVar

from pydantic import Field, model_validator

from workbench.core.bounds import Count
from workbench.stages.base import Stage
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.rows import ABSENT, EXAMPLES, ROWS, SET_METRICS
from workbench.stages.runtime import Runtime

TRIALS = "trials.json"


class EvaluateTuned(Evaluate):
    """The evaluation at the value of one field with the best mean PSNR on the first images of the split `val`.

    The trials are values around the field's own, each `ratio` times the previous one. While the best value is at an end
    of the range, another value is tried beyond it. Among values within `tolerance` of the best, the one closest to the
    field's own is chosen: where PSNR levels off, there is no reason to go further. Rows are those of Evaluate with
    these additional columns:

        tuned_value: the chosen value.
        num_trials: number of trials.
        val_psnr: mean validation PSNR at the chosen value, dB.
        at_edge: whether the best value is still at an end after `max_extensions` more trials.

    Without a field to tune, rows are those of the plain evaluation, with 0 trials and no value (NaN) in these columns.
    """

    name: ClassVar[str] = "evaluate_tuned"
    version: ClassVar[int] = 1

    tuned: str | None = Field("solver.guidance_scale", description="dotted path of the field; null: tune nothing")
    ratio: float = Field(2.0, gt=1, le=100, description="ratio of neighbouring values")
    num_values: int = Field(
        5, ge=3, le=99, description="initial number of values, odd, with the field's own in the middle"
    )
    num_val_images: Count = Field(64, description="validation images per trial, from the start of the split")
    tolerance: float = Field(0.02, ge=0, le=100, description="negligible difference in mean validation PSNR, dB")
    max_extensions: int = Field(
        6, ge=0, le=50, description="maximum number of further trials while the best value is at an end"
    )

    @model_validator(mode="after")
    def _tunable(self) -> "EvaluateTuned":
        if self.tuned is None:
            return self
        if self.split == "val":
            raise ValueError("a field tuned on val must be reported on test: set split=test")
        if self.num_values % 2 == 0:
            raise ValueError(f"num_values must be odd, got {self.num_values}")
        try:
            value = attrgetter(self.tuned)(self)
        except AttributeError:
            raise ValueError(f"solver {self.solver.kind} has no {self.tuned} to tune") from None
        if not isinstance(value, float) or not value > 0:
            raise ValueError(f"{self.tuned} is tuned by ratios and must be a positive number, got {value!r}")
        return self

    def plain(self, power: int = 0) -> Evaluate:
        """The evaluation with the field at `ratio**power` times its own value."""
        cell = Evaluate(**{name: getattr(self, name) for name in Evaluate.model_fields})
        return cell.replace({self.tuned: self.value(power)}) if self.tuned else cell

    def value(self, power: int) -> float:
        """`ratio**power` times the field's own value."""
        assert self.tuned is not None
        return float(attrgetter(self.tuned)(self)) * self.ratio**power

    def trial(self, power: int) -> Evaluate:
        """The same evaluation on validation images."""
        return self.plain(power).replace(split="val", num_images=self.num_val_images)

    def upstream(self) -> tuple[Stage, ...]:
        half = self.num_values // 2
        trials = [self.trial(power) for power in range(-half, half + 1)] if self.tuned else [self.plain()]
        return (*super().upstream(), *trials)

    def check(self) -> None:
        super().check()
        if self.tuned:
            self.data.split("val").first(self.num_val_images)

    def work(self, folder: Path, runtime: Runtime) -> None:
        import pandas as pd

        scores = self._tune(runtime) if self.tuned else {}
        best = self._best(scores) if scores else 0
        made = self.plain(best).ensure(runtime)
        rows = pd.read_parquet(made / ROWS).assign(
            tuned_value=self.value(best) if scores else math.nan,
            num_trials=len(scores),
            val_psnr=scores.get(best, math.nan),
            at_edge=self._at_edge(scores),
        )
        rows.to_parquet(folder / ROWS)
        for path in (made / EXAMPLES, *made.glob(SET_METRICS), *made.glob(f"*{ABSENT}")):
            shutil.copyfile(path, folder / path.name)
        trials = [{"value": self.value(power), "val_psnr": score} for power, score in sorted(scores.items())]
        (folder / TRIALS).write_text(json.dumps(trials, indent=2))

    def _tune(self, runtime: Runtime) -> dict[int, float]:
        """Mean validation PSNR by power of the ratio."""
        half = self.num_values // 2
        scores = {power: self._score(power, runtime) for power in range(-half, half + 1)}
        for _ in range(self.max_extensions):
            if not self._at_edge(scores):
                break
            best = self._best(scores)
            beyond = best - 1 if best == min(scores) else best + 1
            scores[beyond] = self._score(beyond, runtime)
        return scores

    def _score(self, power: int, runtime: Runtime) -> float:
        import pandas as pd

        mean = float(pd.read_parquet(self.trial(power).ensure(runtime) / ROWS, columns=["psnr"])["psnr"].mean())
        return mean if math.isfinite(mean) else -math.inf

    def _best(self, scores: Mapping[int, float]) -> int:
        highest = max(scores.values())
        return min((power for power, score in scores.items() if score >= highest - self.tolerance), key=abs)

    def _at_edge(self, scores: Mapping[int, float]) -> bool:
        return bool(scores) and self._best(scores) in (min(scores), max(scores))
