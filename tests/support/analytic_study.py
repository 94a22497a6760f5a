"""A study whose cells' quality and cost are known functions of two settings, and take no time."""

import json
import os
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from optuna.distributions import FloatDistribution, IntDistribution

from workbench.stages.base import Stage
from workbench.stages.evaluate import Evaluate
from workbench.stages.rows import EXAMPLES, ROWS
from workbench.stages.runtime import Runtime
from workbench.study import Preset, Study

BEST_OFFSET, NUM_IMAGES = 3.0, 8
SEARCH = {"start.offset_db": FloatDistribution(-3.0, 9.0), "sampler.num_steps": IntDistribution(10, 100)}


NOISE_OFFSET = -2.0
"""The best offset on gaussian_noise."""


def psnr_of(offset_db: float, num_steps: int, best_offset: float = BEST_OFFSET) -> float:
    """Rises with the steps, and is best at `best_offset` whatever they are."""
    return 20 + num_steps / 10 - (offset_db - best_offset) ** 2


class Analytic(Evaluate):
    """Rows of a formula: image i has the formula's PSNR plus i - mean, the cost num_steps."""

    name: ClassVar[str] = "analytic"

    def upstream(self) -> tuple[Stage, ...]:
        return ()

    def check(self) -> None:
        pass

    def work(self, folder: Path, runtime: Runtime) -> None:
        with (runtime.root / "worked.jsonl").open("a") as file:
            file.write(json.dumps([self.split, self.num_images, os.getpid()]) + "\n")
        time.sleep(float(os.environ.get("ANALYTIC_SECONDS", "0")))
        images = np.arange(self.num_images)
        steps = self.sampler.num_steps
        best = NOISE_OFFSET if self.degradation.kind == "gaussian_noise" else BEST_OFFSET
        quality = psnr_of(self.start.offset_db, steps, best) + images - images.mean()  # type: ignore[union-attr]
        pd.DataFrame({"image_id": images, "psnr": quality, "nfe": steps, "flops": 2.0 * steps}).to_parquet(
            folder / ROWS
        )
        (folder / EXAMPLES).touch()


def analytic_study(**fields: Any) -> Study:
    cell = Analytic(num_images=NUM_IMAGES).replace({"start.offset_db": 0.0, "sampler.num_steps": 50})
    return Study(**{"cell": cell, "axes": {}, "presets": {"smoke": Preset()}, "search": SEARCH} | fields)


def worked(root: Path) -> list[list[Any]]:
    """(split, images, process) of each cell that was computed."""
    path = root / "worked.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def main() -> None:
    """`python analytic_study.py RUNS TRIALS [STORAGE]`: tune it in a process of its own."""
    import sys

    from workbench.tuning.tune import Options, tune

    root, trials, *storage = sys.argv[1:]
    options = Options(trials=int(trials), sampler="tpe", storage=storage[0] if storage else None)
    tune("analytic", analytic_study(), "smoke", {}, options, Runtime(Path(root)))


if __name__ == "__main__":
    main()
