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

from studies.calibration import sections
from studies.calibration.results import Start, evidence_name, read
from studies.calibration.study import RESTORED, SEPARATOR, STARTS, evidence, study, support
from studies.robustness import study as robustness
from workbench.core.config import UserError
from workbench.data import FashionMNIST
from workbench.degradations import GaussianBlur
from workbench.experiments.results import Cell, StudyResults
from workbench.metrics import severity_bins
from workbench.metrics.calibration import ALL, FILE, Calibration, as_json
from workbench.stages.measure.measure_calibration import MeasureCalibration

NUM = 400
GAIN = 0.25
"""What a Gaussian error gains, in dB."""
WORSE = 4.0
"""By what factor an encoder that meets another degradation underestimates its error's variance."""


@pytest.fixture(scope="module")
def laplace() -> Calibration:
    return latent_errors.calibration_of(latent_errors.laplace, channel=latent_errors.mmse, num=60)


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
        gains = dict(zip(Start, [0.0, GAIN, -0.1, -0.1, -0.3, 0.1, 0.0], strict=True))
        found[evidence_name("tiny", encoder)] = {
            "calibration": json.loads(as_json({ALL: laplace, "0 to 0.2": laplace})),
            "restorations": {
                start: {
                    "image_id": list(range(16)),
                    "psnr": (psnr + gain).tolist(),
                    "nfe": [15 if start != Start.CAUTIOUS else 20] * 16,
                }
                for start, gain in gains.items()
            },
            "num_severity_bins": 5,
        }
    axes = {"encoder": [*names], "degradation": [*names], "autoencoder": ["tiny"]}
    frame = pd.concat(frames, ignore_index=True)
    return StudyResults("calibration", "desk", "?", "", axes, frame, {}, {}, [], found)


def test_the_answer_has_the_figures(results: StudyResults) -> None:
    found = read(results)
    assert [promise.kept for promise in next(iter(found.own.values())).promises.values()] == [
        "broken", "kept", "kept, more than promised",
    ]  # fmt: skip
    assert [pair.promises[0.1].kept for pair in found.strangers] == ["broken", "broken"]
    assert [gain.mean for gain in found.gaussian_gains.values()] == pytest.approx([GAIN, GAIN])
    shape, level, promise, strangers, cost = sections.answer(found)
    assert shape.startswith("No: standardised errors differ from a Gaussian")
    assert "for 2 of 2 encoders (p < 0.05" in shape
    assert level == "The predicted variance is right within 10 %, over all severities, for 2 of 2 encoders."
    assert promise.endswith("breaks its promised risk in 2 of 6 cases.")
    assert strangers.endswith("breaks a promised 10 % in 2 of 2 cases.")
    assert "PSNR changes by 0.25 dB" in cost


def test_over_confident_encoders_are_counted(results: StudyResults) -> None:
    def doubled(laws: Any) -> Any:
        return {**laws, "figures": {**laws["figures"], "ratio": [2.0, 1.9, 2.1]}}

    found = {
        name: {**one, "calibration": {group: doubled(laws) for group, laws in one["calibration"].items()}}
        for name, one in results.evidence.items()
    }
    assert sections.answer(read(dataclasses.replace(results, evidence=found)))[1].endswith(
        "for 0 of 2 encoders; over-confident: 2."
    )


def test_recalibration_is_told_of_the_last_one_that_there_is(results: StudyResults) -> None:
    assert "After recalibration (isotonic), 10 of 10" in drawn(results, "recalibration")
    one = dataclasses.replace(results, frame=results.frame.drop(columns=["var_factor", "var_isotonic"]))
    assert "After recalibration (temperature)" in drawn(one, "recalibration")


def drawn(results: StudyResults, name: str) -> str:
    """A section in one line."""
    return " ".join(str(getattr(sections, name)(read(results)).html).split())


def test_every_section_is_drawn_and_says_what_it_should(results: StudyResults) -> None:
    assert sections.closer(read(results)) is None, "it is for who asks for a degradation"
    html = {draw.__name__: drawn(results, draw.__name__) for draw in study.report if draw is not sections.closer}
    kept = re.findall(r">\s*(kept|kept, more than promised|broken)\s*<", html["promise"])
    assert kept == ["broken", "kept", "kept, more than promised"] * 2
    assert f">{GAIN:.2f}<" in html["cost"]
    assert all("<svg" in html[name] for name in ("shape", "recalibration", "promise"))
    assert sections.main_figure(read(results)).png().startswith(b"\x89PNG")


def test_one_degradation_and_severity_alone(results: StudyResults) -> None:
    found = read(results)
    section = sections.closer(found, degradation="jpeg", severity="0 to 0.2")
    assert section is not None
    assert section.title == "JPEG, severity 0 to 0.2"
    assert str(section.html).count("<svg") == 4
    with pytest.raises(UserError, match="no encoder of haze; available: gaussian_blur, jpeg"):
        sections.closer(found, degradation="haze")
    with pytest.raises(UserError, match=r"no severity '0\.5'; available: all, 0 to 0\.2"):
        sections.closer(found, degradation="jpeg", severity="0.5")


def test_what_is_not_there_is_not_told(results: StudyResults) -> None:
    bare = {name: {**found, "restorations": {}} for name, found in results.evidence.items()}
    without = read(dataclasses.replace(results, evidence=bare))
    assert sections.cost(without) is None
    assert len(sections.answer(without)) == 4
    unmatched = read(dataclasses.replace(results, evidence={}))
    assert "cannot say" in sections.answer(unmatched)[0]
    assert all(draw(unmatched) is None for draw in (*study.report, sections.main_figure))


def test_different_measurements_are_not_compared(results: StudyResults) -> None:
    frame = results.frame.copy()
    frame.loc[frame["encoder"] == "jpeg", "measurement_set"] = "another"
    with pytest.raises(UserError, match="different measurements of gaussian_blur: they cannot be compared"):
        read(dataclasses.replace(results, frame=frame))


def test_starts_on_different_images_are_not_compared(results: StudyResults) -> None:
    changed = json.loads(json.dumps(results.evidence))
    changed[evidence_name("tiny", "jpeg")]["restorations"][Start.GAUSSIAN]["image_id"][0] = 99
    with pytest.raises(UserError, match="different images"):
        sections.cost(read(dataclasses.replace(results, evidence=changed)))


def test_bins_are_as_many_as_were_asked_for(results: StudyResults) -> None:
    found = {name: {**one, "num_severity_bins": 4} for name, one in results.evidence.items()}
    fewer = dataclasses.replace(results, evidence=found)
    before = {name: {key: one[key] for key in one if key != "num_severity_bins"} for name, one in found.items()}
    assert "8 of 8 bins" in drawn(fewer, "recalibration")
    assert "10 of 10 bins" in drawn(dataclasses.replace(results, evidence=before), "recalibration")
    for name in ("recalibration", "promise"):
        assert "0.75 to 1" in drawn(fewer, name)
        assert "0.8 to 1" not in drawn(fewer, name)


def test_another_axis_is_refused(results: StudyResults) -> None:
    axes = {**results.axes, "seed": ["0", "1"]}
    with pytest.raises(UserError, match="no other of several values"):
        read(dataclasses.replace(results, axes=axes))


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
    folders = {"tiny, jpeg": tmp_path / "measured", f"tiny, jpeg{SEPARATOR}{Start.REAL}": tmp_path / "restored"}
    for folder in folders.values():
        folder.mkdir()
    (folders["tiny, jpeg"] / FILE).write_text(as_json({ALL: laplace}))
    (folders["tiny, jpeg"] / "config.json").write_text(json.dumps({"num_severity_bins": 2}))
    rows: dict[str, list[float]] = {"image_id": [7], "psnr": [25.0], "nfe": [16], "ssim": [0.9]}
    pd.DataFrame(rows).to_parquet(tmp_path / "restored" / "per_image.parquet")
    found = evidence(folders)["tiny, jpeg"]
    assert found["calibration"][ALL]["num_images"] == laplace.num_images
    assert found["num_severity_bins"] == 2
    assert found["restorations"] == {Start.REAL: {name: rows[name] for name in RESTORED}}
    json.dumps(found)
