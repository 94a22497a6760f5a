"""What the severity study says of made-up encoders whose effects are known."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from studies._trivial import trivial_gain
from studies.severity import sections
from studies.severity.results import Key, ratio, read, views
from studies.severity.study import study
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults
from workbench.metrics import ordering_accuracy, statistics
from workbench.reporting import percent, spoken

LEVELS = ("0.1", "0.2", "0.4", "0.8", "1.0")
NOISES = ("0.0", "0.05", "0.1")
BLUR, UNIVERSAL = "gaussian_blur", "mixture"
OWN = Key(BLUR, "0.05", BLUR, "0.05")
JPEG = Key("jpeg", "0.05", "jpeg", "0.05")
SPREAD = 0.3
"""Standard deviation of log var_hat among images at one level; its mean is the level."""
OVER_CONFIDENCE = {"0.0": 0.5, "0.05": 1.0, "0.1": 3.0}
"""True over predicted variance of the blur encoder that was trained at 0.05, by the noise of the measurements."""


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "NUM_RESAMPLES", 100)


def make_results(keys: list[Key], num_images: int = 60) -> StudyResults:
    """log var_hat = level + SPREAD x normal; s2 is var_hat times the encoder's over-confidence."""
    rng = np.random.default_rng(0)
    image_ids = rng.integers(2**40, size=num_images)
    frames = []
    for key in keys:
        over = OVER_CONFIDENCE[key.noise] if key.encoder == BLUR and key.trained_noise == "0.05" else 1.0
        for level in LEVELS:
            var_hat = np.exp(float(level) + SPREAD * rng.normal(size=num_images))
            labels = dict(zip(("encoder", "trained noise", "degradation", "noise"), key, strict=True))
            columns = {"image_id": image_ids, "var_hat": var_hat, "s2": over * var_hat, "level": level, **labels}
            frames.append(pd.DataFrame(columns).assign(cell=f"{len(frames):012x}").sample(frac=1, random_state=1))
    frame = pd.concat(frames, ignore_index=True)
    axes = {"encoder": 0, "trained noise": 1, "degradation": 2, "noise": 3}
    labels = {axis: list(dict.fromkeys(key[place] for key in keys)) for axis, place in axes.items()}
    return StudyResults(
        "severity", "desk", "Does it?", "command", {**labels, "level": list(LEVELS)}, frame, {}, {}, []
    )  # fmt: skip


@pytest.fixture(scope="module")
def results() -> StudyResults:
    return make_results(
        [
            *[OWN._replace(noise=noise) for noise in NOISES],
            *[Key(BLUR, noise, BLUR, noise) for noise in ("0.0", "0.1")],
            *[Key(UNIVERSAL, "0.05", BLUR, noise) for noise in NOISES],
            JPEG,
        ]
    )


def in_order() -> float:
    """The closed form of the share of pairs in order."""
    levels = [float(level) for level in LEVELS]
    gaps = [b - a for i, a in enumerate(levels) for b in levels[i + 1 :]]
    return float(np.mean([norm.cdf(gap / (SPREAD * math.sqrt(2))) for gap in gaps]))


def test_series_hold_the_same_images_at_every_level(results: StudyResults) -> None:
    series = read(results)
    assert len(series) == 9
    var_hat = series[OWN]["var_hat"]
    assert list(var_hat) == [0.1, 0.2, 0.4, 0.8, 1.0]
    rows = results.frame.query("encoder == degradation == 'gaussian_blur' and noise == `trained noise` == '0.05'")
    image = rows[rows["image_id"] == rows["image_id"].min()].set_index("level")["var_hat"]
    assert var_hat.iloc[0].tolist() == pytest.approx([image[level] for level in LEVELS])
    assert ratio(series[OWN._replace(noise="0.1")]).mean().tolist() == pytest.approx([3.0] * 5)


def test_the_answer_states_the_known_effects(results: StudyResults) -> None:
    found = read(results)
    share = ordering_accuracy(found[OWN]["var_hat"])
    assert share.mean == pytest.approx(in_order(), abs=0.04)
    order, error, trivial, noise, other = sections.answer(found)
    assert order.startswith("Largely:")
    assert percent(share) in order
    assert error == "It is calibrated: the true variance of its error is 1.00 [1.00, 1.00] times the predicted one."
    assert "better than the best trivial predictor, known severity: by " in trivial
    assert spoken(trivial_gain(found[OWN]), 2) in trivial
    assert "noise 0.1, on which it was not trained, the true variance becomes 3.00 [3.00, 3.00] times" in noise
    assert f"JPEG orders fewest pairs, {percent(ordering_accuracy(found[JPEG]['var_hat']))}" in other


@pytest.mark.parametrize(("noise", "words"), [("0.1", "over-confident"), ("0.0", "under-confident")])
def test_a_wrong_level_is_called_so(results: StudyResults, noise: str, words: str) -> None:
    changed = results.frame.assign(s2=results.frame["s2"] * OVER_CONFIDENCE[noise])
    assert words in sections.answer(read(dataclasses.replace(results, frame=changed)))[1]


def test_without_other_noise_or_degradations_nothing_is_said_of_them() -> None:
    assert len(sections.answer(read(make_results([OWN])))) == 3


def test_without_a_matched_encoder_it_cannot_say() -> None:
    (said,) = sections.answer(read(make_results([OWN._replace(noise="0.1")])))
    assert "cannot say" in said


def test_views_put_side_by_side_what_differs_in_one_thing(results: StudyResults) -> None:
    assert {title: list(view) for title, view in views(read(results)).items()} == {
        "Gaussian blur encoder, trained at noise 0.05, on Gaussian blur": ["noise 0.0", "noise 0.05", "noise 0.1"],
        "universal encoder, on Gaussian blur": ["noise 0.0", "noise 0.05", "noise 0.1"],
        "encoders tested as they were trained": [
            "Gaussian blur, noise 0.05",
            "Gaussian blur, noise 0.0",
            "Gaussian blur, noise 0.1",
            "JPEG, noise 0.05",
        ],
    }


def test_sections_are_drawn(results: StudyResults) -> None:
    found = read(results)
    html = {draw.__name__: draw(found).html for draw in study.report}
    assert {name: text.count("<svg") for name, text in html.items()} == {
        "levels": 5, "trivial": 0,
    }  # fmt: skip
    assert "nan" not in " ".join(html.values()).lower().replace("finance", "")
    assert sections.main_figure(found).png().startswith(b"\x89PNG")


def test_trivial_predictors_stand_beside_the_prediction(results: StudyResults) -> None:
    html = sections.trivial(read(results)).html
    assert "residual norm" not in html
    assert "among images at one level" not in html
    rng = np.random.default_rng(1)
    s2 = results.frame["s2"].to_numpy()
    better = results.frame.assign(var_hat=s2 * np.exp(0.5 * rng.normal(size=len(s2))))
    new = better.assign(residual_rms_decoded=s2**0.5, log_var_y=-np.log(s2) + rng.normal(size=len(s2)))
    found = read(dataclasses.replace(results, frame=new))
    html = sections.trivial(found).html
    assert html.count("residual norm") == 2, "over all levels, and within"
    assert "worse than the best trivial predictor, residual norm: by −0." in sections.answer(found)[2]


def test_levels_of_other_images_are_refused(results: StudyResults) -> None:
    frame = results.frame.copy()
    frame.loc[0, "image_id"] = 1
    with pytest.raises(UserError, match="tested on different images"):
        read(dataclasses.replace(results, frame=frame))


def test_another_axis_is_refused(results: StudyResults) -> None:
    axes = {**results.axes, "seed": ["0", "1"]}
    with pytest.raises(UserError, match="needs the axes encoder"):
        read(dataclasses.replace(results, axes=axes))


@pytest.mark.parametrize(("preset", "num_cells"), [("smoke", 8), ("desk", 130), ("full", 450)])
def test_cells_of_the_presets(preset: str, num_cells: int) -> None:
    cells = study.cells(preset)
    assert len(cells) == num_cells
    assert len({tuple(cell.labels.values()) for cell in cells}) == num_cells
    assert len({cell.stage.identity for cell in cells}) == num_cells
    assert sum(cell.labels["encoder"] == UNIVERSAL for cell in cells) == {"smoke": 0, "desk": 40, "full": 210}[preset]
