"""What is said of a calibration, on errors of known law."""

import dataclasses

from latent_errors import calibration_of, forward, gaussian, laplace, mmse

from workbench.metrics import Estimate
from workbench.metrics.calibration import Calibration
from workbench.reporting import verdicts


def said(one: Calibration) -> set[object]:
    return set(verdicts.verdict(one).values())


def test_a_verdict_names_what_is_wrong() -> None:
    one = calibration_of(laplace, channel=mmse, num=60)
    assert said(one) >= {"calibrated", "heavier than Gaussian", "Laplace", "mmse"}
    assert said(calibration_of(gaussian, channel=forward, num=60)) >= {
        "calibrated",
        "as Gaussian",
        "Gaussian",
        "forward",
    }
    assert "over-confident" in said(calibration_of(predicted=lambda variance: variance / 2, num=60))
    assert "under-confident" in said(calibration_of(predicted=lambda variance: variance * 2, num=60))
    wide = dataclasses.replace(one, figures=one.figures | {"ratio": Estimate(1.0, 0.85, 1.15, 60)})
    assert "not decided" in said(wide)
    uniform = calibration_of(lambda rng, size: rng.uniform(-(3**0.5), 3**0.5, size), num=60)
    assert "lighter than Gaussian" in said(uniform)


def test_coverage_is_that_of_nine_tenths() -> None:
    scores = verdicts.scores(calibration_of(num=60))
    coverage = scores["coverage of 90 %"]
    assert isinstance(coverage, Estimate)
    assert coverage.low < 0.9 < coverage.high
