"""Is the error of a severity encoder's latent Gaussian, and does the encoder know its size?

SNR matching takes ẑ for the clean latent plus white Gaussian noise of the variance that the encoder predicts. Here each
encoder's ẑ is set beside the clean latent on thousands of test images over all severities: is the predicted variance
the true one (level), is the error Gaussian (shape), is it uncorrelated with ẑ or with the clean latent (orthogonality),
is it equally strong in all places (isotropy) and are its elements independent? Then the remedies: the variance
recalibrated on validation images, and a bound on it that holds with a promised probability; both also where the encoder
meets a degradation that it was not trained on. And what it is worth: images restored from the real ẑ and from a
Gaussian error of the same variance, from recalibrated variances, from the bound, and with other noise. Expected: the
level is nearly right, and tails are heavier than a Gaussian's.

Elements of one error depend on each other, so intervals and tests resample whole images, never elements.

Cost: 18 minutes on two cores (desk), of which eight are training encoders that the robustness study trains too; half a
minute (smoke), a night, with every autoencoder (full). Run: python -m workbench study calibration
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studies._autoencoders import AUTOENCODERS, prior_of
from studies._cells import matched
from studies.calibration import sections
from studies.calibration.results import (
    CAUTIOUS,
    CHANNEL,
    GAUSSIAN,
    MMSE,
    REAL,
    RECALIBRATED,
    RESTORED,
    WHITE,
    evidence_name,
    read,
)
from studies.robustness.study import FAMILIES, TRAINED_ON
from workbench.autoencoders import AutoencoderRecipe, Tiny
from workbench.degradations import Degradation, Haze
from workbench.experiments.results import Cell
from workbench.experiments.study import Axes, Preset, Study
from workbench.metrics import calibration
from workbench.severity.calibration.recalibration import Factor, Isotonic, Temperature
from workbench.severity.start import OracleGaussian, OracleVariance, SNRMatch
from workbench.solvers import LDPS
from workbench.stages.base import Stage
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.measure.measure_calibration import MeasureCalibration
from workbench.stages.rows import ROWS

TINY = Tiny()
STARTS = {
    REAL: OracleVariance(),
    GAUSSIAN: OracleGaussian(),
    WHITE: SNRMatch(variance="encoder"),
    CHANNEL: SNRMatch(variance="encoder", noise="channel"),
    MMSE: SNRMatch(variance="encoder", channel="mmse"),
    RECALIBRATED: SNRMatch(variance="encoder", recalibration=Isotonic()),
    CAUTIOUS: SNRMatch(variance="encoder", recalibration=Isotonic(), risk=0.1),
}
NUM_RESTORED = 64
"""Images restored from each start."""
SEPARATOR = "/"


def own(recipe: AutoencoderRecipe, families: Sequence[Degradation]) -> list[Axes]:
    """Each family's encoder of an autoencoder on it."""
    return [matched(family, autoencoder=(recipe,), prior=(prior_of(recipe),)) for family in families]


def others(recipe: AutoencoderRecipe, families: Sequence[Degradation]) -> list[Axes]:
    """Each family's encoder on every other: what its promises are worth there, without a summary."""
    return [
        {
            TRAINED_ON: (family,),
            "degradation": tuple(other for other in families if other != family),
            "autoencoder": (recipe,),
            "prior": (prior_of(recipe),),
            "num_severity_bins": (0,),
        }
        for family in families
    ]


def support(cells: Sequence[Cell]) -> dict[str, Stage]:
    """The matched encoders' calibrations, and the images that are restored with them."""
    stages: dict[str, Stage] = {}
    for cell in cells:
        stage = cell.stage
        if not isinstance(stage, MeasureCalibration) or not stage.is_matched or not stage.num_severity_bins:
            continue
        name = evidence_name(cell.labels["autoencoder"], cell.labels["degradation"])
        stages[name] = stage
        stages |= {f"{name}{SEPARATOR}{start}": restored for start, restored in restorations(stage).items()}
    return stages


def restorations(stage: MeasureCalibration) -> dict[str, Stage]:
    """The first of its images, restored from each start."""
    fields = ("data", "autoencoder", "prior", "severity_encoder", "degradation", "sampler", "split", "seed")
    same = {field: getattr(stage, field) for field in fields}
    size = min(NUM_RESTORED, max(stage.num_images // 32, 1))
    return {
        name: Evaluate(**same, start=start, solver=LDPS(), num_images=size, num_examples=0)
        for name, start in STARTS.items()
    }


def evidence(folders: Mapping[str, Path]) -> dict[str, Any]:
    """By encoder: its calibration, and PSNR and start of each image restored with it."""
    import pandas as pd

    found: dict[str, Any] = {}
    for name, folder in folders.items():
        encoder, _, start = name.partition(SEPARATOR)
        mine = found.setdefault(encoder, {"calibration": {}, "restorations": {}})
        if not start:
            mine["calibration"] = json.loads((folder / calibration.FILE).read_text())
            mine["num_severity_bins"] = json.loads((folder / "config.json").read_text())["num_severity_bins"]
            continue
        rows = pd.read_parquet(folder / ROWS)
        mine["restorations"][start] = {c: rows[c].tolist() for c in RESTORED}
    return found


def grids(families: Sequence[Degradation], *more: AutoencoderRecipe) -> dict[str, Any]:
    """The axes and the further grids of these families, and of `more` autoencoders on what their encoders know."""
    first, *further = own(TINY, families)
    matched_only = [axes for recipe in more for axes in own(recipe, families)]
    return {"axes": first, "grids": (*further, *others(TINY, families), *matched_only)}


study = Study(
    cell=MeasureCalibration(
        num_images=5250,  # so that every bin of severity holds 1,000
        recalibrations=(Factor(), Temperature(), Isotonic()),
    ),
    axes=own(TINY, FAMILIES)[0],
    columns={TRAINED_ON: "encoder", "num_severity_bins": None, "prior": None},
    support=support,
    evidence=evidence,
    presets={
        "smoke": Preset(
            overrides={
                "num_images": 200,
                "num_fit_images": 200,
                "sampler.num_steps": 50,
                "severity_encoder.num_train_images": 128,
                "severity_encoder.batch_size": 32,
            },
            **grids(FAMILIES[:2]),
        ),
        "desk": Preset(**grids(FAMILIES)),
        "full": Preset(
            overrides={"num_images": 10_000, "severity_encoder.num_train_images": 100_000},
            **grids((*FAMILIES, Haze()), *(recipe for recipe in AUTOENCODERS if recipe != TINY)),
        ),
    },
    results=read,
    answer=sections.answer,
    main_figure=sections.main_figure,
    report=(
        sections.verdict,
        sections.level,
        sections.shape,
        sections.channel,
        sections.structure,
        sections.recalibration,
        sections.promise,
        sections.cost,
        sections.closer,
    ),
)
