"""Typed results against the effects that the rows were made with, and sentences against the typed results."""

import dataclasses
import re
import warnings
from html import unescape

import numpy as np
import pandas as pd
import pytest
from synthetic_robustness import (
    CLOSED,
    DEGRADATIONS,
    GAP,
    HARM,
    HARMED,
    MISMATCH_LOSS,
    NFE_FACTOR,
    NO_ENCODER_LOSS,
    OVER_CONFIDENCE,
    SEED_STEP,
    SEEDS,
    SIX,
    START_SHARE,
    UNIVERSAL,
    UNIVERSAL_LOSS,
    UNSEEN_LOSS,
    make_full_results,
    make_results,
)

from studies.robustness import sections
from studies.robustness.likeness import groups
from studies.robustness.results import OWN, TRUE, UNSEEN, Remedy, Robustness, over_pairs, read
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults
from workbench.metrics import mean_interval, statistics
from workbench.reporting import Section, spoken

PAIR = ("jpeg", "gaussian_blur")


@pytest.fixture(autouse=True, scope="module")
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "NUM_RESAMPLES", 100)
        yield


@pytest.fixture(scope="module")
def rows() -> StudyResults:
    return make_full_results(16)


@pytest.fixture(scope="module")
def full(rows: StudyResults) -> Robustness:
    return read(rows)


@pytest.fixture(scope="module")
def plain() -> Robustness:
    return read(make_results(16))


@pytest.fixture(scope="module")
def remedy(full: Robustness) -> Remedy:
    assert full.remedy is not None
    return full.remedy


def rows_of(results: StudyResults, encoder: str, degradation: str) -> pd.DataFrame:
    frame = results.frame
    return frame[(frame["encoder"] == encoder) & (frame["degradation"] == degradation) & (frame["variance"] == OWN)]


def test_two_axes_are_read_as_they_are(plain: Robustness) -> None:
    assert plain.grid.encoders == (*DEGRADATIONS, UNIVERSAL)
    assert plain.grid.universal == UNIVERSAL
    assert plain.remedy is plain.likeness is None
    assert list(plain.by_seed) == [""]


def test_seeds_are_averaged_image_by_image_and_counted_once(rows: StudyResults, full: Robustness) -> None:
    mine = rows_of(rows, *PAIR)
    cell = full.grid.frames[PAIR]
    assert len(mine) == 3 * len(cell)
    pd.testing.assert_series_equal(cell["psnr"], mine.groupby("image_id")["psnr"].mean())
    ratios = (mine["s2"] / mine["var_hat"]).groupby(mine["image_id"]).mean()
    pd.testing.assert_series_equal(cell["variance_ratio"], ratios, check_names=False)
    assert set(cell["cell"]) == set(mine[mine["seed"] == SEEDS[0]]["cell"]), "the first seed's, for its examples"
    first = full.by_seed[SEEDS[0]].frames[PAIR]["psnr"]
    assert (first - cell["psnr"]).to_numpy() == pytest.approx(SEED_STEP)
    unseen = rows_of(rows, "all but jpeg", "jpeg").set_index("image_id")["psnr"].sort_index()
    pd.testing.assert_series_equal(full.grid.frames[UNSEEN, "jpeg"]["psnr"], unseen)


def test_an_encoder_that_saw_the_degradation_is_not_called_unseen(rows: StudyResults) -> None:
    seen = rows_of(rows, "all but jpeg", "jpeg").assign(degradation="gaussian_blur", psnr=99.0)
    grid = read(dataclasses.replace(rows, frame=pd.concat([rows.frame, seen]))).grid
    assert grid.frames[UNSEEN, "gaussian_blur"]["psnr"].max() < 99
    assert UNSEEN not in dict(grid.mismatched_pairs("gaussian_blur"))


def test_other_axes_are_taken_with_one_value_and_refused_with_several(rows: StudyResults) -> None:
    two = dataclasses.replace(rows, axes={**rows.axes, "solver": ["ldps", "psld"]})
    with pytest.raises(UserError, match=r"no other of several values.*solver"):
        read(two)
    with pytest.raises(UserError, match="axes encoder, degradation"):
        read(dataclasses.replace(rows, axes={"encoder": ["a"]}))


def test_known_effects_are_found(full: Robustness) -> None:
    grid = full.grid
    cost, universal, avoided = grid.avoided(UNIVERSAL, grid.degradations)
    assert cost.mean == pytest.approx(MISMATCH_LOSS, abs=0.1)
    assert universal.mean == pytest.approx(UNIVERSAL_LOSS, abs=0.1)
    assert avoided.mean == pytest.approx(1 - UNIVERSAL_LOSS / MISMATCH_LOSS, abs=0.05)
    assert grid.avoided(UNSEEN, grid.degradations)[1].mean == pytest.approx(UNSEEN_LOSS, abs=0.1)
    assert over_pairs(grid, "variance_ratio", grid.mismatched_pairs()).mean == pytest.approx(OVER_CONFIDENCE, rel=0.05)


def test_rules_close_what_they_were_made_to_close(remedy: Remedy) -> None:
    pairs = [pair for pair in remedy.groups()["mismatched"] if pair != HARMED]
    assert list(remedy.rules) == [OWN, "fused", "residual", TRUE]
    for rule, part in CLOSED.items():
        assert remedy.closed(rule, pairs).mean == pytest.approx(part, abs=0.02)
    gap = mean_interval(remedy.gain(TRUE, OWN, pairs)).mean
    assert gap == pytest.approx(GAP * mean_interval(remedy.lost(OWN, pairs)).mean, rel=0.01)
    assert remedy.gain("fused", OWN, [HARMED]).mean() == pytest.approx(-HARM, abs=0.02)
    nfe = [remedy.mean(rule, "nfe", pairs).mean() for rule in ("fused", OWN)]
    assert nfe[0] / nfe[1] == pytest.approx(NFE_FACTOR)
    assert remedy.start_share("fused", pairs).mean == pytest.approx(START_SHARE, abs=0.01)
    for rule, loss in NO_ENCODER_LOSS.items():
        assert remedy.lost(rule, remedy.groups()["no encoder"]).mean() == pytest.approx(loss, abs=0.1)
    assert np.isnan(remedy.closed("fused", remedy.groups()["matched"]).mean), "matched encoders have no gap"


def test_likeness_finds_the_planted_link(full: Robustness) -> None:
    likeness = full.likeness
    assert likeness is not None
    assert likeness.names == SIX
    assert not np.diag(likeness.loss).any()
    first = next(iter(likeness.tests.values()))
    assert first.r > 0.9
    assert likeness.corrected(first) == pytest.approx(3 * first.p_two_sided), "for the three distances tried"
    bins = likeness.by_bin(likeness.lost)[PAIR]
    assert sum(estimate.num_images for estimate in bins) == len(likeness.lost[PAIR])
    assert sections._link(likeness) == "shown"


def test_too_few_degradations_are_not_tested() -> None:
    likeness = read(make_full_results(8, degradations=SIX[:3])).likeness
    assert likeness is not None
    assert likeness.tests == {}
    assert sections._link(likeness) == "untested"


@pytest.mark.parametrize(
    ("d", "expected"),
    [
        ([[0, 1, 9], [1, 0, 9], [9, 9, 0]], [[0, 1], [2]]),
        ([[0, 5, 5], [5, 0, 5], [5, 5, 0]], [[0], [1], [2]]),
        ([[0, 3], [3, 0]], [[0], [1]]),
    ],
)
def test_groups_are_cut_at_the_largest_step(d: list[list[float]], expected: list[list[int]]) -> None:
    assert sorted(groups(np.array(d, float))) == expected


def test_short_names_tell_degradations_apart() -> None:
    short = sections.abbreviations((*SIX, "gaussian_blot"))
    assert len(set(short.values())) == 7
    assert short["super_resolution"] == "SR"


@pytest.mark.parametrize("name", ["plain", "full"])
def test_the_answer_has_at_most_five_sentences_with_the_results_numbers(
    name: str, request: pytest.FixtureRequest
) -> None:
    found: Robustness = request.getfixturevalue(name)
    grid, said = found.grid, sections.answer(found)
    loss = mean_interval(grid.mismatch_losses(grid.degradations))
    ratio = over_pairs(grid, "variance_ratio", grid.mismatched_pairs())
    expected = [
        spoken(loss, 2, " dB"),
        spoken(ratio, 1),
        spoken(grid.avoided(UNIVERSAL, grid.degradations)[1], 2, " dB"),
    ]
    if found.remedy is not None:
        mended = found.remedy.lost("fused", found.remedy.groups()["mismatched"])
        expected += [
            spoken(mean_interval(mended), 2, " dB"),
            spoken(grid.avoided(UNSEEN, grid.degradations)[1], 2, " dB"),
        ]
    assert len(said) == len(expected) <= 5
    assert said[0].startswith("No: ")
    for sentence, figure in zip(said, expected, strict=True):
        assert figure in sentence
        assert sentence.count("[") == 1, "one number each, with its interval"


def test_without_mismatched_encoders_the_answer_says_so() -> None:
    results = make_results(4)
    frame = results.frame.query("encoder == degradation").reset_index(drop=True)
    axes = {"encoder": list(DEGRADATIONS), "degradation": list(DEGRADATIONS)}
    (said,) = sections.answer(read(dataclasses.replace(results, frame=frame, axes=axes)))
    assert "cannot say" in said


def drawn(found: Robustness) -> dict[str, Section]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return {section.title: section for draw in sections.SECTIONS if (section := draw(found)) is not None}


def test_every_section_is_drawn_and_names_kinds_as_readers_know_them(full: Robustness) -> None:
    found = drawn(full)
    assert len(found) == len(sections.SECTIONS) - 1, "all but the controls, which these results do not hold"
    for title, section in found.items():
        text = unescape(re.sub(r'"[^"]*"|<[^>]+>', " ", section.html))
        assert not re.search(r"motion blur crf|\bjpeg\b|gaussian|\bnan\b|None", text), title


def test_sections_without_results_are_left_out(plain: Robustness) -> None:
    titles = set(drawn(plain))
    assert not titles & {"Severity corrected by the measurement", "Which degradations are alike?"}
    assert "What does a mismatched encoder lose?" in titles


def test_cells_lead_to_their_examples(plain: Robustness) -> None:
    found = drawn(plain)
    links = set(re.findall(r'href="#(cell-[0-9a-f]+)"', found["What does a mismatched encoder lose?"].html))
    assert links == set(re.findall(r'id="(cell-[0-9a-f]+)"', found["Restored examples"].html))


def test_the_opening_shows_a_matched_encoder(plain: Robustness) -> None:
    cell = sections.example(plain)
    assert cell in {str(plain.first.frames[pair]["cell"].iloc[0]) for pair in plain.first.matched_pairs()}
    assert sections.main_figure(plain).png().startswith(b"\x89PNG")
