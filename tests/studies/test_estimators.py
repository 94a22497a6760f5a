"""The report of the estimators study, on rows made up from known effects, and its cells."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from studies.estimators.results import ALSO_TRAINED, QUICK, RESIDUAL, TRAINED, read
from studies.estimators.sections import answer, estimates, restored
from studies.estimators.study import study
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults
from workbench.severity.quick import Quick
from workbench.stages.measure.evaluate import Evaluate

LOSS = {"jpeg": 0.1, "haze": 0.5}
"""dB that the fitted estimator loses to the trained one."""


def made_up(estimators: tuple[str, ...] = (RESIDUAL, QUICK, TRAINED), ratio: float = 1.05) -> StudyResults:
    """The residual gains 1 dB less than the fitted estimator, whose true over predicted variance is `ratio`."""
    rng = np.random.default_rng(0)
    base, frames = 24 + rng.normal(0, 1, 32), []
    s2 = np.exp(rng.normal(-3, 0.5, 32))
    for degradation, loss in LOSS.items():
        for name in estimators:
            psnr = base - {RESIDUAL: loss + 1, QUICK: loss, TRAINED: 0}[name]
            wrong = 5.0 if name == RESIDUAL else ratio
            frames.append(
                pd.DataFrame(
                    {
                        "image_id": np.arange(32),
                        "psnr": psnr,
                        "psnr_decoded": psnr - 1,
                        "nfe": 10,
                        "seconds": 0.1,
                        "s2": s2,
                        "var_hat": 1.0 if name == RESIDUAL else s2 / wrong,
                        "start_variance": s2 / wrong,
                        "degradation": degradation,
                        "estimator": name,
                        "cell": f"{degradation} {name}",
                    }
                )
            )
    return StudyResults("estimators", "desk", "How good?", "run", {}, pd.concat(frames), {}, {}, [])


def test_the_answer_is_what_was_put_in() -> None:
    lost, gained, calibrated = answer(read(made_up()))
    assert "within 0.3 dB of the one trained for the operator on 1 of 2 degradations" in lost
    assert "it loses most on haze, 0.50" in lost
    assert "it gains 1.00" in gained
    assert "calibrated within 10 % on 2 of 2 degradations" in calibrated
    assert "on 0 of 2 degradations" in answer(read(made_up(ratio=1.2)))[-1]


def test_the_universal_encoder_of_photographs_counts_as_trained() -> None:
    results = made_up()
    names = results.frame["estimator"].replace(TRAINED, ALSO_TRAINED)
    renamed = dataclasses.replace(results, frame=results.frame.assign(estimator=names))
    assert answer(read(renamed)) == answer(read(results))


def test_without_a_prior_only_estimates_are_compared() -> None:
    found = read(made_up((RESIDUAL, QUICK)))
    assert len(answer(found)) == 2
    assert found["jpeg"].rank(QUICK) == pytest.approx(1)
    assert found["jpeg"].ratio(RESIDUAL).mean() == pytest.approx(5)
    html = estimates(found).html + restored(found).html
    assert "jpeg, quick" in html.lower()
    with pytest.raises(UserError, match="no estimator of kind quick"):
        read(made_up((RESIDUAL,)))


def test_every_estimator_gets_the_same_measurements() -> None:
    for preset in study.presets:
        by_degradation: dict[str, set[str]] = {}
        for cell in study.cells(preset):
            assert isinstance(cell.stage, Evaluate)
            by_degradation.setdefault(cell.labels["degradation"], set()).add(cell.labels["estimator"])
            if isinstance(cell.stage.severity_encoder, Quick):
                assert cell.stage.start.channel == "mmse"  # type: ignore[union-attr]
        expected = {RESIDUAL, QUICK} | {"given": set(), "photos": {ALSO_TRAINED}}.get(preset, {TRAINED})
        assert all(found == expected for found in by_degradation.values())
