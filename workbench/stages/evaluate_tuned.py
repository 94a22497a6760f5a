"""Evaluate with a solver's step size that was chosen on validation images.

Runs of different kinds (solvers, starts, numbers of steps) need different guidance, and a comparison is fair where each
has had as many trials. Trials and the final run are Evaluate cells of their own, so studies share them.
"""

import json
import math
import shutil
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import ClassVar

from pydantic import Field, model_validator

from workbench.bounds import Count
from workbench.stages.base import Stage
from workbench.stages.evaluate import Evaluate
from workbench.stages.rows import EXAMPLES, LPIPS_ABSENT, ROWS
from workbench.stages.runtime import Runtime

TRIALS = "trials.json"


class EvaluateTuned(Evaluate):
    """The evaluation at the value of one field that has the best mean PSNR on the first images of the split `val`.

    Tried are values around the field's own, each `ratio` times the last. While the best one is at an end of what was
    tried, another is tried beyond it. Of values that are as good, up to `tolerance`, the one nearest to the field's own
    counts as best: where PSNR levels off there is nothing to be found further out. Rows are those of
    Evaluate with these columns more:

        tuned_value: the value that was chosen.
        num_trials: how many were tried.
        val_psnr: the mean validation PSNR at the chosen one, dB.
        at_edge: whether the best is still at an end, after `max_extensions` more trials.

    Without a field to tune, rows are those of the plain evaluation, and these columns 0 trials and no value (NaN).
    """

    name: ClassVar[str] = "evaluate_tuned"
    version: ClassVar[int] = 1

    tuned: str | None = Field("solver.guidance_scale", description="dotted path of the field; null: tune nothing")
    ratio: float = Field(2.0, gt=1, le=100, description="between neighbouring values")
    num_values: int = Field(5, ge=3, le=99, description="values tried at first, odd: the field's own is in the middle")
    num_val_images: Count = Field(64, description="validation images of a trial, from the beginning of the split")
    tolerance: float = Field(
        0.02, ge=0, le=100, description="difference in mean validation PSNR that does not count, dB"
    )
    max_extensions: int = Field(6, ge=0, le=50, description="further trials while the best value is at an end")

    @model_validator(mode="after")
    def _tunable(self) -> "EvaluateTuned":
        if self.tuned is None:
            return self
        if self.split == "val":
            raise ValueError("what is tuned on val must be reported on test: set split=test")
        if self.num_values % 2 == 0:
            raise ValueError(f"num_values must be odd, got {self.num_values}")
        try:
            value = attrgetter(self.tuned)(self)
        except AttributeError:
            raise ValueError(f"there is no {self.tuned} to tune with solver {self.solver.kind}") from None
        if not isinstance(value, float) or not value > 0:
            raise ValueError(f"{self.tuned} is tuned in ratios and must be a positive number, got {value!r}")
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
        """The same on validation images."""
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
        shutil.copyfile(made / EXAMPLES, folder / EXAMPLES)
        if (made / LPIPS_ABSENT).is_file():
            shutil.copyfile(made / LPIPS_ABSENT, folder / LPIPS_ABSENT)
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
