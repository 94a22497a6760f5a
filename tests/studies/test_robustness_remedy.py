import dataclasses
import re
import warnings
from collections.abc import Iterator
from html import unescape

import numpy as np
import pandas as pd
import pytest
from synthetic_study import (
    CLOSED,
    DISTRUSTED,
    GAP,
    HARM,
    HARMED,
    MISMATCH_LOSS,
    NFE_FACTOR,
    NO_ENCODER_LOSS,
    SEED_STEP,
    START_SHARE,
    UNSEEN_LOSS,
    make_full_results,
    make_results,
)

from studies import _robustness_remedy as remedy
from studies._robustness_grid import OWN
from workbench.metrics import statistics
from workbench.results import StudyResults

RIVALS = "against each other rule"
FIRST_SEED_LOSS = MISMATCH_LOSS - SEED_STEP
"""What mismatched encoders of the first seed lose on average."""


@pytest.fixture(autouse=True, scope="module")
def few_resamples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "NUM_RESAMPLES", 200)
        yield


@pytest.fixture(scope="module")
def results() -> StudyResults:
    return make_full_results(16)


@pytest.fixture(scope="module")
def read(results: StudyResults) -> remedy.Remedy:
    found = remedy.read_remedy(results)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def html(results: StudyResults) -> str:
    section = remedy.remedy_section(results)
    assert section is not None
    return section.html


def only(results: StudyResults, **kept: list[str]) -> StudyResults:
    """The results with these labels of each axis alone."""
    frame = results.frame
    for axis, labels in kept.items():
        frame = frame[frame[axis].isin(labels)]
    return dataclasses.replace(results, axes=results.axes | kept, frame=frame)


def figures(sentence: str) -> list[float]:
    return [float(text) for text in re.findall(r"−?\d+(?:\.\d+)?", sentence.replace("−", "-"))]


def table_row(html: str, name: str, title: str = "All figures by group and rule") -> dict[str, float]:
    """A row of a table, by its headings; unrounded."""
    table = html[html.index(title) :].split("</table>")[0]
    headings = [unescape(text) for text in re.findall(r"<th scope=col>(.*?)</th>", table)][1:]
    cells = table[table.index(f"<th scope=row>{name}</th>") :].split("</tr>")[0]
    texts = re.findall(r'<td(?: data-value="(.*?)")?>([^<]*)', cells)
    return {heading: float(value or text) for heading, (value, text) in zip(headings, texts, strict=True)}


def test_groups_are_told_by_what_the_encoder_has_seen(read: remedy.Remedy) -> None:
    sizes = {name: len(pairs) for name, pairs in read.groups().items()}
    assert sizes == {"matched": 6, "mismatched": 30, "universal": 6, "unseen": 6, "no encoder": 6}
    assert list(read.rules) == [OWN, "fused", "residual", "true"]
    assert read.lead == "fused"


def test_the_table_states_the_known_effects(html: str) -> None:
    own, fused = table_row(html, "mismatched: own prediction"), table_row(html, "mismatched: fused")
    assert own["cells"] == fused["cells"] == 30
    gap = GAP * FIRST_SEED_LOSS
    assert own["lost, dB"] == pytest.approx(FIRST_SEED_LOSS, abs=0.1)
    assert own["short of the truth, dB"] == pytest.approx(gap, abs=0.1)
    assert np.isnan(own["gap closed, %"])
    assert np.isnan(own["flagged, %"])
    assert fused["gap closed, %"] == pytest.approx(100 * CLOSED["fused"], abs=5)
    assert fused["lost, dB"] == pytest.approx(FIRST_SEED_LOSS - CLOSED["fused"] * gap, abs=0.2)
    assert fused["lost, dB"] + fused["PSNR, dB"] == pytest.approx(own["lost, dB"] + own["PSNR, dB"])
    assert fused["NFE"] == pytest.approx(NFE_FACTOR * own["NFE"])
    assert fused["start's time, %"] == pytest.approx(100 * START_SHARE)
    assert fused["flagged, %"] == pytest.approx(100 * DISTRUSTED)
    assert table_row(html, "mismatched: residual")["gap closed, %"] == pytest.approx(100 * CLOSED["residual"], abs=1)
    unseen = table_row(html, "unseen: fused")
    assert unseen["lost, dB"] == pytest.approx((1 - GAP * CLOSED["fused"]) * UNSEEN_LOSS, abs=0.05)
    assert unseen["flagged, %"] == 0


def test_no_part_is_closed_of_a_gap_that_was_not_measured(html: str) -> None:
    assert np.isnan(table_row(html, "matched: fused")["gap closed, %"])


def test_without_an_encoder_the_truth_is_what_rules_are_set_against(html: str) -> None:
    none = table_row(html, "no encoder: residual")
    assert none["lost, dB"] == pytest.approx(NO_ENCODER_LOSS["residual"], abs=0.1)
    short = NO_ENCODER_LOSS["residual"] - NO_ENCODER_LOSS["true"]
    assert none["short of the truth, dB"] == pytest.approx(short, abs=0.1)
    assert np.isnan(none["gap closed, %"])
    assert "no encoder: own prediction" not in html


def test_sentences_say_what_is_closed_and_what_it_costs(read: remedy.Remedy) -> None:
    closing, _, _ = remedy.remedy_sentences(read)
    closed, low, high, seed, after, *_, before, cost, cost_before, flops, flops_before, share = figures(closing)
    assert low <= closed <= high
    assert closed == pytest.approx(100 * CLOSED["fused"], abs=5)
    assert seed == 0
    assert before == pytest.approx(FIRST_SEED_LOSS, abs=0.1)
    assert after == pytest.approx(FIRST_SEED_LOSS * (1 - GAP * CLOSED["fused"]), abs=0.2)
    assert cost == pytest.approx(NFE_FACTOR * cost_before, abs=1)
    assert flops == pytest.approx(flops_before, rel=0.2), "made up as equal; the gain is said with its cost"
    assert share == 100 * START_SHARE


def test_the_truth_is_a_yardstick_and_no_upper_bound(results: StudyResults, read: remedy.Remedy) -> None:
    _, truth, _ = remedy.remedy_sentences(read)
    assert re.search(r"no upper bound: fused does better on \d+ of 30 pairs", truth)
    for degradation in read.own.degradations:
        assert degradation.replace("_", " ") in truth
    raised = results.frame["psnr"] + 3.0 * (results.frame["variance"] == "fused")
    better = remedy.read_remedy(dataclasses.replace(results, frame=results.frame.assign(psnr=raised)))
    assert better is not None
    _, truth, _ = remedy.remedy_sentences(better)
    assert "fused does better on 30 of 30 pairs (30 beyond their intervals)" in truth


def test_the_pair_where_it_fails_is_named(read: remedy.Remedy, html: str) -> None:
    *_, failing = remedy.remedy_sentences(read)
    encoder, degradation = (label.replace("_", " ") for label in HARMED)
    assert f"({encoder} on {degradation} by {HARM:.2f} dB" in failing
    short = re.search(r"closes less than half of the gap on 1 of the \d+ that have one \((.*?) −", failing)
    assert short is not None
    assert short[1] == f"{encoder} on {degradation}"
    assert figures(failing)[-3] == pytest.approx(NO_ENCODER_LOSS["residual"], abs=0.1)
    count = re.search(r"on (\d+) of 48 pairs", failing)
    assert count is not None
    assert 1 <= int(count[1]) <= 4, "the noise of 0.02 dB is shown to lose by chance in about one of 40 pairs"
    assert f"on {count[1]} of 48 pairs" in html


def test_nothing_is_claimed_where_nothing_is_lost(results: StudyResults) -> None:
    frame = results.frame.assign(psnr=25 + results.frame.groupby("image_id")["psnr"].transform("mean") / 100)
    equal = remedy.read_remedy(dataclasses.replace(results, frame=frame))
    assert equal is not None
    closing, _, failing = remedy.remedy_sentences(equal)
    assert "was not shown to close a gap" in closing
    assert failing.startswith("It was shown to do worse than the encoder's own prediction on 0 of 48 pairs. Without")


def test_matrices_lead_to_the_examples_of_the_own_prediction(results: StudyResults, html: str) -> None:
    anchors = set(re.findall(r'<a href="#(cell-[^"]*)"', html))
    own = results.frame[(results.frame["variance"] == OWN) & (results.frame["seed"] == "0")]
    assert anchors == {f"cell-{cell}" for cell in own["cell"].unique()}
    assert "nan" not in re.sub(r'data-value="nan"', "", html).lower()


def test_the_residual_speaks_where_nothing_is_fused(results: StudyResults) -> None:
    without = remedy.read_remedy(only(results, variance=[OWN, "residual", "true"]))
    assert without is not None
    assert without.lead == "residual"
    closing, *_ = remedy.remedy_sentences(without)
    assert closing.startswith("Starting from the error that the measurement's residual shows")
    assert figures(closing)[0] == pytest.approx(100 * CLOSED["residual"], abs=1)


def test_flags_and_times_are_left_out_where_they_are_not_known(results: StudyResults) -> None:
    bare = dataclasses.replace(results, frame=results.frame.drop(columns=["distrusted", "start_seconds"]))
    section = remedy.remedy_section(bare)
    assert section is not None
    assert "distrusted, %" not in section.html
    assert "time spent on the start" not in section.html


def test_without_the_truth_there_is_no_gap(results: StudyResults) -> None:
    section = remedy.remedy_section(only(results, variance=[OWN, "fused", "residual"]))
    assert section is not None
    assert "Part of the gap closed" not in section.html
    assert "was not shown to close a gap" in section.html


def test_results_without_other_rules_have_no_section(results: StudyResults) -> None:
    assert remedy.remedy_section(make_results(4)) is None
    assert remedy.remedy_section(only(results, variance=[OWN, "true"])) is None


@pytest.mark.parametrize(
    "kept",
    [{"encoder": ["gaussian_blur", "none"]}, {"encoder": ["none"]}, {"degradation": ["jpeg"]}, {"seed": ["0", "none"]}],
    ids=["one encoder", "no encoder", "one degradation", "one seed"],
)
def test_parts_of_a_study_are_reported_without_warnings(results: StudyResults, kept: dict[str, list[str]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        section = remedy.remedy_section(only(results, **kept))
    assert (section is None) == (kept == {"encoder": ["none"]}), "without matched encoders there is no loss"


def test_one_image_is_reported_without_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert remedy.remedy_section(make_full_results(1, ("gaussian_blur", "gaussian_noise"))) is not None


def test_a_rule_that_few_cells_hold_is_compared_on_those(results: StudyResults, html: str) -> None:
    frame = results.frame
    few = (frame["variance"] != "residual") | (frame["encoder"] == "jpeg") & (frame["degradation"] == "gaussian_blur")
    section = remedy.remedy_section(dataclasses.replace(results, frame=frame[few]))
    assert section is not None
    row = table_row(section.html, "mismatched: residual")
    pair = frame[(frame["encoder"] == "jpeg") & (frame["degradation"] == "gaussian_blur") & (frame["seed"] == "0")]
    psnr: pd.Series = pair.groupby("variance")["psnr"].mean()
    assert row["cells"] == 1
    expected = (psnr["residual"] - psnr[OWN]) / (psnr["true"] - psnr[OWN])
    assert row["gap closed, %"] == pytest.approx(100 * expected)
    rivals = table_row(section.html, "residual: mismatched", RIVALS)
    assert rivals["cells"] == 1
    assert rivals["by the other rule, %"] == row["gap closed, %"]
    assert rivals["PSNR that fused gains, dB"] == pytest.approx(psnr["fused"] - psnr["residual"])
    columns = [len(re.findall(r">\s*residual\s*</text>", found)) for found in (html, section.html)]
    assert columns == [5, 0], "means over other cells stand in no map"


def test_rules_are_set_against_each_other(html: str) -> None:
    row = table_row(html, "residual: mismatched", RIVALS)
    assert row["cells"] == 30
    assert row["gap closed by fused, %"] == table_row(html, "mismatched: fused")["gap closed, %"]
    assert row["by the other rule, %"] == table_row(html, "mismatched: residual")["gap closed, %"]
    gain = GAP * FIRST_SEED_LOSS * (CLOSED["fused"] - CLOSED["residual"])
    assert row["PSNR that fused gains, dB"] == pytest.approx(gain, abs=0.15)
    own = table_row(html, "own prediction: mismatched", RIVALS)
    assert own["NFE of fused"] == pytest.approx(NFE_FACTOR * own["of the other rule"])
    assert "truth: mismatched" not in html
