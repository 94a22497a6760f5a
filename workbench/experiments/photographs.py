"""Whole photographs, tiles, the decoded estimate and classical methods on the same measurements; calibration by size.

`python -m workbench photographs FOLDER` prints the tables. The regularisation of the classical methods is tuned on
other photographs of the folder than those of the test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.degradations.classical import is_convolution
from workbench.metrics import mean_interval, paired_difference, ratio_of_means, spearman
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.measure.evaluate_photographs import EvaluatePhotographs, Method
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime

STRENGTHS: Mapping[Method, Sequence[float]] = {"tv": (0.25, 0.5, 1.0, 2.0), "wiener": (1.0, 4.0, 16.0, 64.0)}
"""Weights of the regularisation that are tried; the best is used. Beyond an end that is the best, more are tried."""
MAX_EXTENSIONS = 5
TUNING_SIDE = 128
"""Pixels a side of the squares that classical methods are tuned on."""
DECODED, VIEW = "decoded", "view of y"
"""D(z_hat); and what the encoder reads, the zero-filled reconstruction or the filtered back-projection."""
WHOLE: Method = "whole"


@dataclass(frozen=True)
class Plan:
    """What to compare.

    Attributes:
        folder: the photographs.
        num_images, num_tuning: photographs of the test, and others to tune the classical methods on.
        sides: squares from the middle whose calibration is compared with that of whole photographs.
    """

    folder: Path
    num_images: int
    num_tuning: int
    sides: Sequence[int]

    def cell(self, cell: Evaluate, **fields: Any) -> EvaluatePhotographs:
        """The cell on the photographs."""
        own = {name: getattr(cell, name) for name in Evaluate.model_fields}
        test = {"photographs": self.folder, "num_images": self.num_images}
        return EvaluatePhotographs(**{**own, **test, **fields})

    def methods(self, cell: Evaluate) -> list[Method]:
        """The methods that the operator of the cell allows."""
        classical: dict[Method, bool] = {"tv": cell.degradation.linear, "wiener": is_convolution(cell.degradation)}
        tiles: list[Method] = ["tiles"] if cell.degradation.measures_images else []  # a part of k-space is no image's
        return [WHOLE, *tiles, *(method for method, allowed in classical.items() if allowed)]

    def check(self, cell: Evaluate) -> None:
        """Refuse too few photographs, or too small ones, before anything is computed. Raises UserError."""
        self.cell(cell, num_images=self.num_images + self.num_tuning).check()
        for side in self.sides:
            self.cell(cell, side=side).check()


def by_method(cell: Evaluate, plan: Plan, runtime: Runtime) -> dict[str, pd.DataFrame]:
    """Rows by image id on the same measurements of whole photographs, by method."""
    found: dict[str, pd.DataFrame] = {}
    for method in plan.methods(cell):
        fields = {"strength": _tuned(cell, plan, method, runtime)} if method in STRENGTHS else {}
        found[method] = _rows(plan.cell(cell, method=method, **fields), runtime).assign(**fields)
        if method == WHOLE:
            decoded = {"psnr": "psnr_decoded", "lpips": "lpips_decoded"}
            found[DECODED] = pd.DataFrame({to: found[WHOLE][of] for to, of in decoded.items() if of in found[WHOLE]})
            if not cell.degradation.measures_images:
                found[VIEW] = pd.DataFrame({"psnr": found[WHOLE]["psnr_degraded"]})
    return found


def by_side(cell: Evaluate, plan: Plan, runtime: Runtime) -> dict[str, pd.DataFrame]:
    """Rows of restored squares of each size, and of whole photographs."""
    squares = {str(side): _rows(plan.cell(cell, side=side), runtime) for side in plan.sides}
    return squares | {WHOLE: _rows(plan.cell(cell), runtime)}


def method_table(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Quality of each method, and what whole photographs gain on it, paired."""
    whole = rows[WHOLE]
    table: dict[str, dict[str, Any]] = {}
    for method, own in rows.items():
        row: dict[str, Any] = {"PSNR, dB": mean_interval(own["psnr"])}
        if method != WHOLE:
            row["whole minus it, dB"] = paired_difference(whole["psnr"], own["psnr"])
        if "lpips" in own and "lpips" in whole:
            row["LPIPS"] = mean_interval(own["lpips"])
            if method != WHOLE:
                row["whole minus it, LPIPS"] = paired_difference(whole["lpips"], own["lpips"])
        if "nfe" in own:
            row["NFE"] = float(own["nfe"].mean())
        if "strength" in own:
            row["regularisation"] = float(own["strength"].iloc[0])
        table[method] = row
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("method")


def side_table(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Calibration of the severity encoder, and of the variance that starts match, by the size of the image."""
    table = {
        side: {
            "s2": mean_interval(own["s2"]),
            "s2 / var_hat": mean_interval(own["s2"] / own["var_hat"]),
            "means of both": ratio_of_means(own["s2"], own["var_hat"]),
            "rank correlation": spearman(own["var_hat"], own["s2"]),
            **_of_the_match(own),
            "restored minus decoded, dB": paired_difference(own["psnr"], own["psnr_decoded"]),
            "autoencoder, dB": mean_interval(own["psnr_ceiling"]),
        }
        for side, own in rows.items()
    }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("pixels a side")


def _of_the_match(rows: pd.DataFrame) -> dict[str, Any]:
    """Calibration of the variance that starts match; nothing for a start that matches none."""
    matched = rows["start_variance"]
    if matched.isna().any():
        return {}
    return {"s2 / matched": mean_interval(rows["s2"] / matched), "rank of matched": spearman(matched, rows["s2"])}


def _tuned(cell: Evaluate, plan: Plan, method: Method, runtime: Runtime) -> float:
    """The strength with the highest mean PSNR on the photographs for tuning."""
    other = {"part": "tuning", "num_images": plan.num_tuning, "side": TUNING_SIDE, "method": method}

    def quality(strength: float) -> float:
        return float(_rows(plan.cell(cell, **other, strength=strength), runtime)["psnr"].mean())

    low, second, *_ = STRENGTHS[method]
    factor = second / low
    means = {strength: quality(strength) for strength in STRENGTHS[method]}
    for _ in range(MAX_EXTENSIONS):
        best = max(means, key=lambda strength: means[strength])
        if best not in (min(means), max(means)):
            break
        further = best / factor if best == min(means) else best * factor
        means[further] = quality(further)
    return max(means, key=lambda strength: means[strength])


def _rows(stage: EvaluatePhotographs, runtime: Runtime) -> pd.DataFrame:
    return pd.read_parquet(stage.ensure(runtime) / ROWS).set_index("image_id").sort_index()
