"""What the calibration study says of made-up encoders whose errors are known."""

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import latent_errors
import numpy as np
import pandas as pd
import pytest
from latent_errors import SHAPE

from studies import _calibration_report as report
from studies import _calibration_words as words
from studies import robustness
from studies._calibration_rows import (
    CAUTIOUS,
    CHANNEL,
    GAUSSIAN,
    MMSE,
    REAL,
    RECALIBRATED,
    RESTORED,
    WHITE,
    evidence_name,
    read_pairs,
)
from studies.calibration import SEPARATOR, STARTS, evidence, study, support
from workbench.config import UserError
from workbench.data import FashionMNIST
from workbench.degradations import GaussianBlur
from workbench.metrics import Estimate, severity_bins
from workbench.metrics.calibration import ALL, FILE, Calibration, as_json
from workbench.results import Cell, StudyResults
from workbench.stages.measure_calibration import MeasureCalibration

NUM = 400
GAIN = 0.25
"""What a Gaussian error gains, in dB."""
WORSE = 4.0
"""By what factor an encoder that meets another degradation underestimates its error's variance."""


def calibration_of(noise: Any, channel: Any = latent_errors.mmse, factor: float = 1.0) -> Calibration:
    """Of errors of this law, `factor` times larger in variance than predicted."""
    variance = latent_errors.levels(60, seed=0)
    drawn = noise(np.random.default_rng(0), (60, *SHAPE))
    return latent_errors.summarise(latent_errors.collected(*channel(drawn, variance, 0), variance / factor))


@pytest.fixture(scope="module")
def laplace() -> Calibration:
    return calibration_of(latent_errors.laplace)


@pytest.fixture(scope="module")
def results(laplace: Calibration) -> StudyResults:
    """Two matched encoders with Laplace errors of the right level, and each on the other's degradation."""
    names = ("gaussian_blur", "jpeg")
    frames, found = [], {}
    for i, encoder in enumerate(names):
        for j, degradation in enumerate(names):
            rng = np.random.default_rng(10 * i + j)
            var_hat = rng.uniform(0.05, 0.4, NUM)
            s2 = var_hat * np.exp(rng.normal(-0.02, 0.2, NUM)) * (1 if i == j else WORSE)
            frames.append(
                pd.DataFrame(
                    {
                        "image_id": np.arange(NUM),
                        "severity": (np.arange(NUM) + 0.5) / NUM,
                        "var_hat": var_hat,
                        "s2": s2,
                        "square": s2,
                        "var_factor": var_hat,
                        "var_temperature": var_hat,
                        "var_isotonic": var_hat,
                        # of the law above: exceeded always, in a tenth, and never
                        "bound_0.05": var_hat / 100,
                        "bound_0.1": var_hat * np.exp(-0.02 + 0.2 * 1.2816),
                        "bound_0.2": 100 * var_hat,
                        "num_scores": 2000,
                        "measurement_set": degradation,
                        "cell": f"{i}{j}",
                        "encoder": encoder,
                        "degradation": degradation,
                        "autoencoder": "tiny",
                    }
                )
            )
        psnr = np.random.default_rng(i).normal(25, 2, 16)
        gains = {REAL: 0.0, GAUSSIAN: GAIN, WHITE: -0.1, CHANNEL: -0.1, MMSE: -0.3, RECALIBRATED: 0.1, CAUTIOUS: 0.0}
        found[evidence_name("tiny", encoder)] = {
            "calibration": json.loads(as_json({ALL: laplace, "0 to 0.2": laplace})),
            "restorations": {
                start: {
                    "image_id": list(range(16)),
                    "psnr": (psnr + gain).tolist(),
                    "start_timestep": [30] * 16,
                    "nfe": [15 if start != CAUTIOUS else 20] * 16,
                }
                for start, gain in gains.items()
            },
            "num_severity_bins": 5,
        }
    axes = {"encoder": [*names], "degradation": [*names], "autoencoder": ["tiny"]}
    frame = pd.concat(frames, ignore_index=True)
    return StudyResults("calibration", "desk", "?", "", axes, frame, {}, {}, [], found)


def test_a_verdict_names_what_is_wrong(laplace: Calibration) -> None:
    said = words.verdict(laplace)
    assert "level right" in said
    assert "tails heavier than Gaussian: kurtosis 6" in said
    assert "likeliest law a Laplace" in said
    assert "uncorrelated with ẑ (mmse)" in said
    size = int(np.prod(SHAPE))
    assert f"of {size};" in said


def test_a_verdict_stays_quiet_of_what_is_right() -> None:
    said = words.verdict(calibration_of(latent_errors.gaussian, latent_errors.forward))
    assert "tails as Gaussian" in said
    assert "uncorrelated with z0 (forward)" in said
    assert "likeliest law a Gaussian" in said
    assert "level right" in said
    wrong = words.verdict(calibration_of(latent_errors.gaussian, factor=2.0))
    assert "level wrong: true over predicted variance 2.0" in wrong or "variance 1.9" in wrong


def test_the_answer_has_the_figures(results: StudyResults) -> None:
    shape, level, recalibrated, promise, strangers, cost = words.answer(results)
    assert shape.startswith("No: standardised errors part from the Gaussian of their own mean and variance for 2 of 2")
    assert "heavier than a Gaussian's for 2 and lighter for 0" in shape
    assert "right within 10 % for 2 of 2" in level
    assert "mmse for 2 of 2 encoders" in level
    assert "(isotonic), which puts 10 of 10 bins within 10 % of 1" in recalibrated
    assert promise.startswith("The promised risk is broken in 2 of 6 cases: s² lies above its bound in 100.0 % at 5 %")
    assert "in 2 of 2 cases" in strangers
    assert "PSNR changes by 0.25 dB" in cost
    assert "noise by channel 0.00 dB (helps 0, hurts 0 of 2)" in cost
    assert "mmse −0.20 dB (helps 0, hurts 2 of 2)" in cost


def test_bounds_that_are_never_exceeded_keep_their_promise(results: StudyResults) -> None:
    kept = dataclasses.replace(results, frame=results.frame.drop(columns="bound_0.05"))
    promise = words.answer(kept)[3]
    assert promise.startswith("The promised risk is kept: s² lies above its bound in")
    assert "within what chance allows in 2 of 4 cases, and less often in 2." in promise


def test_another_choice_of_recalibrations(results: StudyResults) -> None:
    one = dataclasses.replace(results, frame=results.frame.drop(columns=["var_factor", "var_isotonic"]))
    assert "after recalibration (temperature)" in words.answer(one)[2]
    html = str(report.recalibration_section(one).html) + str(report.promise_section(one).html)
    assert "temperature" in html
    assert "one factor" not in re.sub(r"<p>.*?</p>", "", html, flags=re.DOTALL)


def test_light_tails_are_no_gaussian(results: StudyResults) -> None:
    uniform = json.loads(as_json({ALL: calibration_of(lambda rng, size: rng.uniform(-(3**0.5), 3**0.5, size))}))
    found = {name: {**one, "calibration": uniform} for name, one in results.evidence.items()}
    said = words.answer(dataclasses.replace(results, evidence=found))[0]
    assert said.startswith("No: ")
    assert "lighter for 2" in said


def test_a_level_that_is_not_decided_is_not_called_wrong(laplace: Calibration) -> None:
    wide = dataclasses.replace(laplace, figures=laplace.figures | {"ratio": Estimate(1.0, 0.85, 1.15, 60)})
    said = words.verdict(wide, [Estimate(0.9, 0.8, 1.0, 30), Estimate(1.2, 1.1, 1.3, 30)])
    assert said.startswith("level not decided by 60 images: true over predicted variance 1.00 [0.85, 1.15]")
    assert "(0.90 to 1.20 by bin of severity)" in said


def test_every_section_is_drawn_and_says_what_it_should(results: StudyResults) -> None:
    drawn = {draw.__name__: draw(results) for draw in report.SECTIONS}
    assert drawn.pop("closer_section") is None, "it is for who asks for a degradation"
    html = {name: str(section.html) for name, section in drawn.items() if section is not None}
    assert html.keys() == drawn.keys()
    kept = re.findall(r">\s*(kept|kept, more than promised|broken)\s*<", html["promise_section"])
    assert kept == ["broken", "kept", "kept, more than promised"] * 2
    shown = html["cost_section"]
    assert f"{GAIN:.2f}" in shown
    assert all("<svg" in html[name] for name in ("level_section", "shape_section", "structure_section"))
    assert report.main_figure(results).png().startswith(b"\x89PNG")


def test_one_degradation_and_severity_alone(results: StudyResults) -> None:
    section = report.closer_section(results, degradation="jpeg", severity="0 to 0.2")
    assert section is not None
    assert section.title == "JPEG, severity 0 to 0.2"
    assert str(section.html).count("<svg") == 4
    with pytest.raises(UserError, match="no encoder of haze; there are: gaussian_blur, jpeg"):
        report.closer_section(results, degradation="haze")
    with pytest.raises(UserError, match=r"no severity '0\.5'; there are: all, 0 to 0\.2"):
        report.closer_section(results, degradation="jpeg", severity="0.5")


def test_without_restorations_the_page_goes_without(results: StudyResults) -> None:
    bare = {name: {**found, "restorations": {}} for name, found in results.evidence.items()}
    without = dataclasses.replace(results, evidence=bare)
    assert report.cost_section(without) is None
    assert len(words.answer(without)) == 5


def test_without_a_matched_encoder_it_cannot_say(results: StudyResults) -> None:
    (sentence,) = words.answer(dataclasses.replace(results, evidence={}))
    assert "cannot say" in sentence


def test_different_measurements_are_not_compared(results: StudyResults) -> None:
    frame = results.frame.copy()
    frame.loc[frame["encoder"] == "jpeg", "measurement_set"] = "another"
    with pytest.raises(UserError, match="different measurements of gaussian_blur: they cannot be compared"):
        read_pairs(dataclasses.replace(results, frame=frame))


def test_starts_on_different_images_are_not_compared(results: StudyResults) -> None:
    changed = json.loads(json.dumps(results.evidence))
    changed[evidence_name("tiny", "jpeg")]["restorations"][GAUSSIAN]["image_id"][0] = 99
    with pytest.raises(UserError, match="different images"):
        report.cost_section(dataclasses.replace(results, evidence=changed))


def test_bins_are_as_many_as_were_asked_for(results: StudyResults) -> None:
    found = {name: {**one, "num_severity_bins": 4} for name, one in results.evidence.items()}
    fewer = dataclasses.replace(results, evidence=found)
    assert "puts 8 of 8 bins" in words.answer(fewer)[2]
    before = {name: {key: one[key] for key in one if key != "num_severity_bins"} for name, one in found.items()}
    assert "puts 10 of 10 bins" in words.answer(dataclasses.replace(results, evidence=before))[2]
    for section in (report.recalibration_section, report.promise_section):
        assert "0.75 to 1" in section(fewer).html
        assert "0.8 to 1" not in section(fewer).html


def test_another_axis_is_refused(results: StudyResults) -> None:
    axes = {**results.axes, "seed": ["0", "1"]}
    with pytest.raises(UserError, match="no other of several values"):
        read_pairs(dataclasses.replace(results, axes=axes))


def test_desk_asks_for_all_pairs_and_shares_its_encoders_with_robustness() -> None:
    cells = study.cells("desk")
    families = len(robustness.FAMILIES)
    assert len(cells) == families**2
    stages = support(cells)
    assert len(stages) == families * (1 + len(STARTS))
    shared = {part.identity for cell in robustness.study.cells("desk") for part in cell.stage.upstream()}
    encoders = {stage.severity_stage().identity for stage in measured(cells)}
    assert len(encoders) == families
    assert len(encoders & shared) == len(robustness.FOUR)


def test_every_bin_of_severity_at_desk_holds_a_thousand_images() -> None:
    (seed, num_images), *others = {(stage.seed, stage.num_images) for stage in measured(study.cells("desk"))}
    assert not others
    ids = FashionMNIST().split("test").first(num_images).ids
    in_bins = np.bincount(severity_bins(GaussianBlur().draw_severity(ids, seed).numpy(), 5))
    assert in_bins.min() >= 1000


def measured(cells: Sequence[Cell]) -> list[MeasureCalibration]:
    found = [cell.stage for cell in cells]
    assert all(isinstance(stage, MeasureCalibration) for stage in found)
    return found  # type: ignore[return-value]


def test_evidence_is_read_from_the_folders(laplace: Calibration, tmp_path: Path) -> None:
    folders = {"tiny, jpeg": tmp_path / "measured", f"tiny, jpeg{SEPARATOR}{REAL}": tmp_path / "restored"}
    for folder in folders.values():
        folder.mkdir()
    (folders["tiny, jpeg"] / FILE).write_text(as_json({ALL: laplace}))
    (folders["tiny, jpeg"] / "config.json").write_text(json.dumps({"num_severity_bins": 2}))
    rows: dict[str, list[float]] = {"image_id": [7], "psnr": [25.0], "start_timestep": [30], "nfe": [16], "ssim": [0.9]}
    pd.DataFrame(rows).to_parquet(tmp_path / "restored" / "per_image.parquet")
    found = evidence(folders)["tiny, jpeg"]
    assert found["calibration"][ALL]["num_images"] == laplace.num_images
    assert found["num_severity_bins"] == 2
    assert found["restorations"] == {REAL: {name: rows[name] for name in RESTORED}}
    json.dumps(found)
