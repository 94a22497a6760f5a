"""The studies on photographs: the pair that ships, images that there are, and sizes that take minutes."""

from pathlib import Path

import pytest

from studies import _photos
from workbench.experiments.study import load_study
from workbench.reporting.pace import Pace
from workbench.stages.base import Stage
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.measure.measure_calibration import MeasureCalibration
from workbench.stages.runtime import Runtime
from workbench.stages.train.train_severity import TrainSeverity

STUDIES = ("robustness", "solvers", "severity", "snr_matching", "calibration", "autoencoders", "tuning")
MINUTES = 45
NUM_TEST = 4000
"""Photographs of the test split."""


def ships(stage: Stage) -> bool:
    """Whether this makes what data/zoo has, or is to have."""
    pair = Evaluate(**_photos.PHOTOS)  # type: ignore[arg-type]
    universal = TrainSeverity(
        data=_photos.PHOTOGRAPHS, autoencoder=_photos.AUTOENCODER, severity_encoder=_photos.UNIVERSAL
    )
    return stage.identity in {pair.autoencoder_stage().identity, pair.prior_stage().identity, universal.identity}


def left(stage: Stage, found: dict[str, Stage]) -> dict[str, Stage]:
    """All that runs for a stage, by identity."""
    if not ships(stage) and stage.identity not in found:
        found[stage.identity] = stage
        for upstream in stage.upstream():
            left(upstream, found)
    return found


pytestmark = [pytest.mark.shared, pytest.mark.usefixtures("photographs")]


@pytest.mark.parametrize("name", STUDIES)
def test_every_cell_is_of_the_pair_for_photographs_and_the_images_suffice(name: str) -> None:
    study = load_study(name)[0]
    for preset in {"photos", "photos_full"} & study.presets.keys():
        cells = [cell.stage for cell in study.cells(preset)]
        for stage in cells:
            assert isinstance(stage, Evaluate | MeasureCalibration)
            assert stage.data == _photos.PHOTOGRAPHS
            assert stage.num_images <= NUM_TEST
            if name != "autoencoders":
                assert (stage.autoencoder, stage.prior) == (_photos.AUTOENCODER, _photos.PRIOR)
        universal = [s for s in cells if getattr(s, "severity_encoder", None) == _photos.UNIVERSAL]
        assert bool(universal) == (name in ("robustness", "severity"))


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_photos_takes_less_than_45_minutes_on_two_cores(name: str, tmp_path: Path) -> None:
    study, pace = load_study(name)[0], Pace(Runtime(tmp_path))
    cells = study.cells("photos")
    stages: dict[str, Stage] = {}
    for stage in [*(cell.stage for cell in cells), *study.supporting(cells).values()]:
        left(stage, stages)
    assert sum(map(pace.seconds, stages.values())) < 60 * MINUTES
