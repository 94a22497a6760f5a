"""Is the error of a severity encoder's latent Gaussian, and does the encoder know its size?

SNR matching takes ẑ for the clean latent plus white Gaussian noise of the variance that the encoder predicts. Here
each encoder's ẑ is set beside the clean latent on thousands of test images over all severities: is the predicted
variance the true one (level), is the error Gaussian (shape), uncorrelated with ẑ or the clean latent (channel),
equally strong everywhere and independent (structure)? Then the remedies, also on degradations that the encoder was
not trained on: the variance recalibrated on validation images, and a bound on it that holds with a promised
probability. And what it is worth: images restored from the real ẑ, from a Gaussian error of the same variance, and
from the remedies. Expected: the level is nearly right, and tails are heavier than a Gaussian's.

Elements of one error depend on each other, so intervals and tests resample whole images, never elements.

Cost: 18 minutes on two cores (desk), of which eight are training encoders that the robustness study trains too; half a
minute (smoke), 40 minutes, on photographs (photos), a night, with every autoencoder (full).
Run: python -m workbench study calibration
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pandas import read_parquet

from studies._autoencoders import AUTOENCODERS, prior_of
from studies._cells import SMOKE, matched
from studies._photos import AUTOENCODER
from studies._photos import DESK as PHOTOS
from studies.calibration import sections
from studies.calibration.results import Start, evidence_name, read
from studies.robustness.study import FAMILIES, TRAINED_ON
from workbench.autoencoders import AutoencoderRecipe, Tiny
from workbench.degradations import Degradation, Haze
from workbench.experiments.results import Cell
from workbench.experiments.study import Preset, Study
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
    Start.REAL: OracleVariance(),
    Start.GAUSSIAN: OracleGaussian(),
    Start.WHITE: SNRMatch(variance="encoder"),
    Start.CHANNEL: SNRMatch(variance="encoder", noise="channel"),
    Start.MMSE: SNRMatch(variance="encoder", channel="mmse"),
    Start.RECALIBRATED: SNRMatch(variance="encoder", recalibration=Isotonic()),
    Start.CAUTIOUS: SNRMatch(variance="encoder", recalibration=Isotonic(), risk=0.1),
}
NUM_RESTORED = 64
"""Images restored from each start."""
RESTORED = ("image_id", "psnr", "nfe")
"""The columns that are read of restorations."""
SEPARATOR = "/"


def support(cells: Sequence[Cell]) -> dict[str, Stage]:
    """The matched encoders' calibrations, and the first of their images restored from each start."""
    stages: dict[str, Stage] = {}
    for cell in cells:
        stage = cell.stage
        assert isinstance(stage, MeasureCalibration)
        if stage.is_matched and stage.num_severity_bins:
            name = evidence_name(cell.labels["autoencoder"], cell.labels["degradation"])
            fields = ("data", "autoencoder", "prior", "severity_encoder", "degradation", "sampler", "split", "seed")
            same = {field: getattr(stage, field) for field in fields} | {"solver": LDPS(), "num_examples": 0}
            size = min(NUM_RESTORED, max(stage.num_images // 32, 1))
            stages[name] = stage
            for kind, start in STARTS.items():
                stages[f"{name}{SEPARATOR}{kind}"] = Evaluate(**same, start=start, num_images=size)
    return stages


def evidence(folders: Mapping[str, Path]) -> dict[str, Any]:
    """By encoder: its calibration, and PSNR and NFE of each image restored from each start."""
    found: dict[str, Any] = {}
    for name, folder in folders.items():
        encoder, _, start = name.partition(SEPARATOR)
        mine = found.setdefault(encoder, {"calibration": {}, "restorations": {}})
        if start:
            mine["restorations"][start] = read_parquet(folder / ROWS)[list(RESTORED)].to_dict("list")
        else:
            mine["calibration"] = json.loads((folder / calibration.FILE).read_text())
            mine["num_severity_bins"] = json.loads((folder / "config.json").read_text())["num_severity_bins"]
    return found


def preset(
    families: Sequence[Degradation],
    overrides: Mapping[str, Any],
    more: Sequence[AutoencoderRecipe] = (),
    first: AutoencoderRecipe = TINY,
) -> Preset:
    """Each family's encoder on it, and, of the first autoencoder, on every other family too."""
    own, *further = [
        [matched(family, autoencoder=(recipe,), prior=(prior_of(recipe),)) for family in families]
        for recipe in (first, *more)
    ]
    others = [
        # what an encoder's promises are worth elsewhere, without a summary
        {**axes, "degradation": tuple(one for one in families if one != family), "num_severity_bins": (0,)}
        for family, axes in zip(families, own, strict=True)
    ]
    return Preset(overrides=overrides, axes=own[0], grids=(*own[1:], *others, *itertools.chain(*further)))


study = Study(
    cell=MeasureCalibration(
        num_images=5250,  # so that every bin of severity holds 1,000
        recalibrations=(Factor(), Temperature(), Isotonic()),
    ),
    axes=matched(FAMILIES[0], autoencoder=(TINY,), prior=(prior_of(TINY),)),
    columns={TRAINED_ON: "encoder", "num_severity_bins": None, "prior": None},
    support=support,
    evidence=evidence,
    presets={
        "smoke": preset(FAMILIES[:2], {**SMOKE, "num_images": 200, "num_fit_images": 200}),
        "desk": preset(FAMILIES, {}),
        "photos": preset(FAMILIES[:4], {**PHOTOS, "num_images": 1500, "num_fit_images": 1000}, first=AUTOENCODER),
        "full": preset(
            (*FAMILIES, Haze()),
            {"num_images": 10_000, "severity_encoder.num_train_images": 100_000},
            [recipe for recipe in AUTOENCODERS if recipe != TINY],
        ),
    },
    results=read,
    answer=sections.answer,
    main_figure=sections.main_figure,
    report=(sections.verdict, sections.shape, sections.recalibration, sections.promise, sections.cost, sections.closer),
)
