import dataclasses
import re
import warnings
from html import unescape

import numpy as np
import pytest
from synthetic_study import (
    CLOSED,
    DEGRADATIONS,
    GAP,
    MISMATCH_LOSS,
    OVER_CONFIDENCE,
    SEED_STEP,
    SIX,
    UNIVERSAL_LOSS,
    UNSEEN_LOSS,
    make_full_results,
    make_results,
)

from studies import _robustness_report as report
from studies._robustness_failures import FAILURE_DB, failures_section
from workbench.config import UserError
from workbench.metrics import statistics
from workbench.results import StudyResults


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "NUM_RESAMPLES", 200)


@pytest.fixture(scope="module")
def results() -> StudyResults:
    return make_results(24)


@pytest.fixture(scope="module")
def full() -> StudyResults:
    return make_full_results(16)


def with_frame(results: StudyResults, keep) -> StudyResults:
    return dataclasses.replace(results, frame=results.frame[keep(results.frame)].reset_index(drop=True))


def figures(sentence: str) -> list[float]:
    return [float(text) for text in re.findall(r"−?\d+(?:\.\d+)?", sentence.replace("−", "-"))]


def test_answer_states_the_known_effects(results: StudyResults) -> None:
    loss, severity, universal = report.answer(results)
    assert loss.startswith("No:")
    mean, low, high = figures(loss)[:3]
    assert low <= mean <= high
    assert mean == pytest.approx(MISMATCH_LOSS, abs=0.1)
    ratio, matched_ratio, *_ = figures(severity)
    assert ratio == pytest.approx(OVER_CONFIDENCE, rel=0.05)
    assert matched_ratio == pytest.approx(1, rel=0.1)
    assert "too late (it trusts the encoder too much)" in severity
    assert "falls short" in universal
    part = figures(universal)[-3]
    assert part == pytest.approx(100 * (1 - UNIVERSAL_LOSS / MISMATCH_LOSS), abs=4)


def test_answer_when_mismatch_gains() -> None:
    assert report.answer(make_results(24, mismatch_loss=-1.0))[0].startswith("Yes")


def test_answer_when_nothing_is_lost() -> None:
    results = make_results(24, mismatch_loss=0)
    loss, _, universal = report.answer(results)
    assert loss.startswith("No loss was measured")
    assert "%" not in universal


def test_starts_above_the_oracle_are_too_early(results: StudyResults) -> None:
    frame = results.frame.assign(start_timestep=results.frame["oracle_timestep"] + 50)
    early = dataclasses.replace(results, frame=frame)
    assert "50 [50, 50] timesteps too early" in report.answer(early)[1]
    assert "0 start too late and 20 too early" in report.severity_matrix(early).html


@pytest.mark.parametrize("section", [section for section in report.SECTIONS if section is not report.controls_section])
def test_every_section_names_every_degradation(full: StudyResults, section) -> None:
    html = section(full).html
    for degradation in DEGRADATIONS:
        assert degradation.split("_")[0] in html.lower()
    assert "nan" not in re.sub(r'base64,[^"]*|data-value="nan"', "", html).lower()


@pytest.mark.parametrize("section", report.SECTIONS)
@pytest.mark.parametrize(
    "small",
    [
        make_results(4),
        make_results(1),
        make_results(4, degradations=("alpha", "beta")),
        make_results(4, degradations=("alpha",)),
        make_results(4, universal=None),
        make_results(4, degradations=("alpha", "beta"), universal=None),
    ],
    ids=["four images", "one image", "two degradations", "one degradation", "no universal", "neither"],
)
def test_small_studies_are_reported_without_warnings(section, small: StudyResults) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = section(small)
        assert drawn is None or drawn.html
        assert all(report.answer(small))


def test_unfinished_studies_are_reported(results: StudyResults) -> None:
    partial = with_frame(
        results,
        lambda f: ~((f["encoder"] == "gaussian_blur") & (f["degradation"].isin(["gaussian_blur", "gaussian_noise"]))),
    )
    assert all(drawn is None or drawn.html for drawn in (section(partial) for section in report.SECTIONS))
    assert "n/a" in report.psnr_matrix(partial).html
    assert len(report.answer(partial)) == 3


def test_picture_is_a_png(results: StudyResults) -> None:
    assert report.main_figure(results).png().startswith(b"\x89PNG")


def test_losses_are_paired_by_image(results: StudyResults) -> None:
    shuffled = dataclasses.replace(results, frame=results.frame.sample(frac=1, random_state=0))
    assert report.loss_matrix(shuffled).html == report.loss_matrix(results).html


def test_other_images_are_refused(results: StudyResults) -> None:
    frame = results.frame.copy()
    other = (frame["encoder"] == "mixture") & (frame["degradation"] == "gaussian_blur")
    frame.loc[other, "image_id"] += 1
    with pytest.raises(UserError, match="different images"):
        report.loss_matrix(dataclasses.replace(results, frame=frame))


def test_missing_lpips_is_left_out(results: StudyResults) -> None:
    without = dataclasses.replace(results, frame=results.frame.drop(columns="lpips"))
    assert "LPIPS" in report.loss_matrix(results).html
    assert "LPIPS" not in report.loss_matrix(without).html


def test_fallbacks_are_said(results: StudyResults) -> None:
    assert "pure noise" not in report.severity_matrix(results).html
    frame = results.frame.assign(fell_back=np.arange(len(results.frame)) % 4 == 0)
    assert "25.0 % of all restorations" in report.severity_matrix(dataclasses.replace(results, frame=frame)).html


def test_examples_show_every_cell_and_matrices_lead_there(results: StudyResults) -> None:
    html = report.examples_section(results).html
    anchors = re.findall(r'id="(cell-[^"]*)"', html)
    assert sorted(anchors) == sorted(f"cell-{cell}" for cell in results.frame["cell"].unique())
    links = re.findall(r'<a href="#([^"]*)"', report.psnr_matrix(results).html)
    assert sorted(links) == sorted(anchors)
    # a degradation: three images, degraded and clean, then five encoders; two cases of four pictures
    assert html.count("<img") == 4 * (3 * 2 * (1 + 5) + 2 * 4)
    assert html.count("encoder, matched") == 4


def test_worst_and_best_are_chosen_by_result_among_the_kept(results: StudyResults) -> None:
    def of(encoder: str, place: int) -> np.ndarray:
        cell = (frame["encoder"] == encoder) & (frame["degradation"] == "gaussian_blur")
        return frame.index[cell][[place]]

    frame = results.frame.copy()
    frame.loc[of("motion_blur_crf", 5), "psnr"] -= 20
    frame.loc[of("gaussian_noise", 2), "psnr"] += 30
    frame.loc[of("random_inpainting", 20), "psnr"] -= 60  # its pictures are not kept
    html = report.examples_section(dataclasses.replace(results, frame=frame)).html
    html = html[: html.index("Tested on random inpainting")]
    loss, gain = (re.search(rf"Largest {name}</strong><p>([\d.]+) dB", html) for name in ("loss", "gain"))
    assert loss is not None
    assert gain is not None
    assert float(loss[1]) == pytest.approx(20 + MISMATCH_LOSS, abs=1.5)
    assert float(gain[1]) == pytest.approx(30 - MISMATCH_LOSS, abs=1.5)
    assert "lost by the motion blur crf encoder" in html
    assert "gained by the gaussian noise encoder" in html
    assert "on the 8 of 24 test images whose pictures are kept" in html
    over_all = re.search(r"On all 24 the loss goes from −([\d.]+) to ([\d.]+) dB", html)
    assert over_all is not None
    assert over_all[1] == gain[1]
    assert float(over_all[2]) == pytest.approx(60 + MISMATCH_LOSS, abs=1.5)


def test_a_best_case_that_loses_is_called_a_loss() -> None:
    html = report.examples_section(make_results(8, universal=None, mismatch_loss=9)).html
    assert "Smallest loss" in html
    assert "gain</strong>" not in html


def test_cells_without_pictures_say_so(results: StudyResults) -> None:
    examples = {cell: {"image_id": np.array([], dtype=np.int64)} for cell in results.examples}
    html = report.examples_section(dataclasses.replace(results, examples=examples)).html
    assert "<img" not in html
    assert html.count("no pictures are kept") == html.count('id="cell-') == 20


def test_results_without_the_axes_are_refused(results: StudyResults) -> None:
    with pytest.raises(UserError, match="two axes"):
        report.answer(dataclasses.replace(results, axes={"encoder": ["a"]}))


def test_unseen_encoders_are_set_against_the_universal_one(full: StudyResults) -> None:
    sentence = report.answer(full)[2]
    said = sentence[sentence.index("On degradations left out of its mixture") :]
    lost, low, high, part, *_ = figures(said)
    assert low <= lost <= high
    assert lost == pytest.approx(UNSEEN_LOSS, abs=0.1)
    assert part == pytest.approx(100 * (1 - UNSEEN_LOSS / MISMATCH_LOSS), abs=4)
    assert said in report.universal_section(full).html
    assert "part avoided, unseen" in report.universal_section(full).html


def test_the_answer_of_a_full_study_is_short_and_in_order(full: StudyResults) -> None:
    beginnings = (
        "No: on a degradation that it was not trained on",
        "It predicts the error of its own first estimate",
        "A universal encoder",
        "Checking the encoder's prediction against the measurement",
        "The true variance, at ",
        "It was shown to do worse than the encoder's own prediction on",
        "The farther apart the latents of two degradations lie",
        "What to train on: a mixture of all that may come (it loses 0.",
    )
    answer = report.answer(full)
    assert [text.startswith(start) for text, start in zip(answer, beginnings, strict=True)] == [True] * 8


def test_the_spread_of_seeds_is_said(full: StudyResults, results: StudyResults) -> None:
    html = unescape(report.loss_matrix(full).html)
    said = html[html.index("Encoders were trained 3 times") :]
    assert "(once: all but the tested one)" in said
    *by_seed, mean, widest = figures(re.sub(r"with the seeds 0, 1 and 2", "", said[said.index("Mismatched") :]))[:5]
    assert by_seed == pytest.approx([MISMATCH_LOSS + k * SEED_STEP for k in (-1, 0, 1)], abs=0.1)
    assert np.diff(by_seed) == pytest.approx(SEED_STEP)
    assert mean == widest == 2 * SEED_STEP
    assert "Encoders were trained" not in report.loss_matrix(results).html


def test_figures_under_pictures_are_those_of_the_pictures_seed(full: StudyResults) -> None:
    frame = full.frame.copy()
    frame.loc[frame["seed"] != "0", "psnr"] = 77.0
    html = report.examples_section(dataclasses.replace(full, frame=frame)).html
    assert re.search(r"restored \d\d\.\d", html)
    for impossible in range(40, 78):
        assert f"restored {impossible}" not in html
    assert html.count("<strong>Encoder of all but the tested one</strong>") == 6
    assert "None encoder" not in html
    assert "The encoders are those of training seed 0" in html


def test_worst_cases_are_shown_corrected_too(full: StudyResults, results: StudyResults) -> None:
    html = report.examples_section(full).html
    html = html[html.index("Tested on random inpainting") :]
    worst = html[html.index("Largest loss") : html.index("gain</strong>")]
    encoder = re.search(r"lost by the (.*?) encoder", worst)
    assert encoder is not None
    psnr = {
        line: float(figure)
        for line, figure in re.findall(r"<figcaption>(this encoder|corrected|matched) ([\d.]+)", worst)
    }
    # what is left is a fifth of the loss and a tenth of the four fifths that a start can mend
    expected = psnr["this encoder"] + GAP * CLOSED["fused"] * (psnr["matched"] - psnr["this encoder"])
    assert psnr["corrected"] == pytest.approx(expected, abs=0.15)
    assert "corrected" not in report.examples_section(results).html.lower()


def test_failures_are_counted_and_the_worst_are_shown(full: StudyResults) -> None:
    section = failures_section(full, num_images=3)
    assert section is not None
    assert section.html.count('class="strip"') == 3
    assert section.html.count("<figcaption>corrected") == 3
    frame = full.frame.query("variance == 'encoder' and seed == '0'")
    psnr = frame.set_index(["encoder", "degradation", "image_id"])["psnr"].sort_index()
    failed = [
        float(psnr[degradation, degradation][image] - psnr[encoder, degradation][image] > FAILURE_DB)
        for encoder in SIX
        for degradation in SIX
        if encoder != degradation
        for image in psnr[encoder, degradation].index
    ]
    assert figures(section.html)[0] == round(100 * sum(failed) / len(failed))
