"""The report of data_consistency, on rows made up from known effects, and its cells."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from studies.data_consistency.results import NO_GUIDANCE, WEIGHED, read
from studies.data_consistency.sections import answer, weighed_section
from studies.data_consistency.study import SCALES, study
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults
from workbench.severity.start import SNRMatch
from workbench.stages.measure.evaluate import Evaluate


def made_up(limit: float = 4.0, fits: float = 2.0, weighed: float | None = None) -> StudyResults:
    """PSNR falls linearly in log2 of the scale to nothing gained at `limit`; the residual is 1 at `fits`.

    MMPS, if `weighed`, gains so many dB.
    """
    base = 22 + np.random.default_rng(0).normal(0, 1, 16)
    frames = []
    effects = {str(scale): (0.3 * np.log2(limit / scale), 1 + 0.1 * np.log2(fits / scale)) for scale in SCALES}
    effects[NO_GUIDANCE] = 0.0, 2.0
    if weighed is not None:
        effects[WEIGHED] = weighed, 1.0
    for label, (gain, residual) in effects.items():
        frames.append(
            pd.DataFrame(
                {
                    "image_id": np.arange(16),
                    "psnr": base + gain,
                    "ssim": 0.8,
                    "residual_ratio": residual,
                    "nfe": 3 if label == WEIGHED else 14,
                    "flops": 1e9,
                    "seconds": 0.1,
                    "degradation": "jpeg",
                    "guidance": label,
                    "cell": label,
                }
            )
        )
    return StudyResults("data_consistency", "desk", "Where?", "run", {}, pd.concat(frames), {}, {}, [])


@pytest.mark.parametrize("limit", [1.5, 4.0])
def test_where_guidance_stops_helping(limit: float) -> None:
    guidance = read(made_up(limit))["jpeg"]
    assert guidance.best == min(SCALES)
    found = guidance.helps_until()
    assert found is not None
    if limit in SCALES:
        assert found.mean == pytest.approx(limit)
    assert 2 ** np.floor(np.log2(limit)) <= found.mean <= 2 ** np.ceil(np.log2(limit))
    assert read(made_up(limit=100))["jpeg"].helps_until() is None


def test_where_noise_is_fitted() -> None:
    found = read(made_up(fits=3.0))["jpeg"].fits_noise_from()
    assert found is not None
    assert found.mean == pytest.approx(3.0)
    assert read(made_up(fits=100))["jpeg"].fits_noise_from() is None


def test_each_sentence_has_the_number_of_the_results() -> None:
    gain, end, noise, at_end = answer(read(made_up()))
    assert "gains 1.20 dB" in gain, "0.3 log2(4 / 0.25)"
    assert "on JPEG from a scale of 4.0 [" in end
    assert "on JPEG, from a scale of 2.0 [" in noise
    assert "an end of the sweep on JPEG" in at_end
    assert "still helps at the largest scale" in answer(read(made_up(limit=100, fits=100)))[1]
    for section in study.report:
        drawn = section(read(made_up(weighed=1.0)))
        assert drawn is not None
        assert "nan" not in drawn.html.replace("dominant", "").lower()


def test_guidance_that_weighs_itself_stands_beside_the_best_scale() -> None:
    results = made_up(weighed=1.5)
    guidance = read(results)["jpeg"]
    assert guidance.weighed is not None
    assert guidance.best == min(SCALES), "MMPS is not one of the scales"
    drawn = weighed_section(read(results))
    assert drawn is not None
    assert ">0.30</td>" in drawn.html, "1.5 dB over the 1.2 dB of the best scale"
    assert weighed_section(read(made_up())) is None


def test_cells_without_a_counterpart_are_refused() -> None:
    results = made_up()
    results = dataclasses.replace(results, frame=results.frame.query("guidance != @NO_GUIDANCE"))
    with pytest.raises(UserError, match="jpeg needs cells with and without guidance"):
        read(results)


def test_cells_that_cannot_be_told_apart_are_refused() -> None:
    results = made_up()
    again = results.frame[results.frame["guidance"] == "2.0"].assign(cell="again")
    results = dataclasses.replace(results, frame=pd.concat([results.frame, again]))
    with pytest.raises(UserError, match=r"two cells are called 2\.0"):
        read(results)


def test_the_default_scale_is_a_cell_of_other_studies_too() -> None:
    identities = {cell.stage.identity for cell in study.cells("desk")}
    assert Evaluate(start=SNRMatch(variance="encoder")).identity in identities
