import dataclasses
import math
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from studies import _solvers_report as report
from studies._solvers_runs import (
    AXES,
    DECODED,
    FEW,
    FIXED,
    FULL,
    MARGINS,
    MATCHED,
    OFFICIAL,
    baselines,
    claim_of,
    few_steps,
    nfe_to_reach,
    read_pairs,
    savings,
    speed_up,
)
from studies.solvers import study
from workbench.config import UserError
from workbench.metrics import statistics
from workbench.reporting.publish import draw
from workbench.results import StudyResults

GAIN = 0.5
"""What SNR matching gains over pure noise on the longest grid, dB."""
SOLVERS, DEGRADATIONS = ("ldps", "psld"), ("gaussian_blur", "random_inpainting")
PER_OCTAVE = 0.25
"""By how much PSNR grows with each doubling of the baseline's steps, dB."""
EVALUATIONS = {MATCHED: 25.0, OFFICIAL: 25.0, FIXED: 50.0}


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "NUM_RESAMPLES", 200)


def make_results(num_images: int = 24, gain: float = GAIN, lpips: bool = True) -> StudyResults:
    """Pure noise at 800, 200 and 50 steps; the other starts at 1/2 of their evaluations too, 1 dB worse."""
    rng = np.random.default_rng(0)
    image_ids = rng.integers(2**40, size=num_images)
    severity = rng.uniform(size=num_images)
    base = 27 - 6 * severity
    frames: list[pd.DataFrame] = []
    examples: dict[str, dict[str, np.ndarray]] = {}

    def add(psnr: float, nfe: float, val: float | None, **labels: Any) -> None:
        cell = f"{len(frames):012x}"
        noise = rng.normal(0, 0.05, num_images)
        own = base + psnr + noise - noise.mean()
        columns = {
            "cell": cell,
            "image_id": image_ids,
            "psnr": own,
            "ssim": 0.9 - (30 - own) / 50,
            "residual_ratio": 1.0,
            "psnr_degraded": base - 6,
            "nfe": nfe,
            "flops": 2e8 * nfe,
            "seconds": 0.004 * nfe,
            "severity": severity,
            "tuned_value": math.nan if val is None else 2.0,
            "num_trials": 0 if val is None else 3,
            "val_psnr": math.nan if val is None else val,
            "at_edge": False,
            "diverged": False,
        }
        if lpips:
            columns["lpips"] = 0.1 + (30 - own) / 80
        frames.append(pd.DataFrame(columns).assign(**{"timestep": labels["start"], "eta": "0.0", **labels}))
        pictures = rng.uniform(size=(min(8, num_images), 8, 8, 1)).astype(np.float32)
        names = ("clean", "degraded", "decoded", "restored")
        examples[cell] = dict.fromkeys(names, pictures) | {"image_id": image_ids[:8]}

    for degradation in DEGRADATIONS:
        for solver in SOLVERS:
            labels = {"degradation": degradation, "solver": solver}
            for steps in (800, 200, 50):
                psnr = PER_OCTAVE * math.log2(steps / 800)
                add(
                    psnr,
                    steps,
                    25 + psnr,
                    **labels,
                    start=FULL,
                    num_steps=str(steps),
                    eta="1.0" if steps == 800 else "0.0",
                )
            for start, nfe in EVALUATIONS.items():
                for steps, share in ((500, 1.0), (250, 0.5)):
                    psnr = gain - 2 * (1 - share)
                    add(psnr, share * nfe, 25 + psnr, **labels, start=start, num_steps=str(steps))
        add(-1, 0, None, degradation=degradation, solver=DECODED, start=MATCHED, num_steps="500")
    frame = pd.concat(frames, ignore_index=True)
    frame.loc[frame["start"] == FIXED, "timestep"] = "100"
    axes = {name: list(frame[name].unique()) for name in AXES}
    return StudyResults("solvers", "desk", "Fast?", "command", axes, frame, examples, {"device": "CPU"}, [])


@pytest.fixture(scope="module")
def results() -> StudyResults:
    return make_results()


def changed(results: StudyResults, where: pd.Series, **columns: Any) -> StudyResults:
    frame = results.frame.copy()
    for name, value in columns.items():
        frame.loc[where, name] = value(frame.loc[where, name])
    return dataclasses.replace(results, frame=frame)


def test_the_claim_holds_with_the_known_figures(results: StudyResults) -> None:
    pairs = read_pairs(results)
    assert [(pair.solver, pair.degradation) for pair in pairs] == [(s, d) for d in DEGRADATIONS for s in SOLVERS]
    for pair in pairs:
        claim = claim_of(pair)
        assert claim is not None
        assert claim.failures == []
        assert claim.baseline.num_steps == 800
        assert claim.gains["psnr"].mean == pytest.approx(GAIN)
        assert claim.gains["ssim"].mean == pytest.approx(GAIN / 50)
        assert claim.gains["lpips"].mean == pytest.approx(GAIN / 80)
        assert claim.fewer_nfe.mean == claim.less_time.mean == pytest.approx(800 / 25)
    first, fixed, decoded, *others = report.answer(results)
    assert first.startswith("Yes: for 4 of 4 pairs")
    assert "within margins (0.10 dB of PSNR, 0.005 of SSIM (reflected borders) and 0.010 of LPIPS)" in first
    assert fixed.startswith("One fixed timestep for all images")
    assert "for 0 of 4 pairs." in decoded
    assert len(others) == 4
    assert "LDPS on Gaussian blur: the claim holds. SNR match, 500 steps" in others[0]
    assert f"PSNR +{GAIN:.2f}" in others[0]
    assert "LPIPS \N{MINUS SIGN}0.006" in others[0], "lower is better"
    assert "From pure noise no grid reaches its PSNR." in others[0]


def test_a_start_that_reads_no_severity_is_set_beside(results: StudyResults) -> None:
    """Fixed starts of these results are as good as SNR matching, at twice its evaluations."""
    for pair, control in baselines(results):
        assert control.fixed.num_steps == 500, "the better one on validation images"
        assert control.fewer_nfe.mean == pytest.approx(800 / 50)
        assert control.gains["psnr"].mean == pytest.approx(0, abs=1e-9)
        assert control.near.num_steps == 250, "as many evaluations as SNR matching takes"
        assert control.near.nfe == claim_of(pair).flash.nfe  # type: ignore[union-attr]
        assert control.near_gain.mean == pytest.approx(1)
        assert control.decoded_gain.mean == pytest.approx(-1)
    better = (results.frame["start"] == FIXED) & (results.frame["num_steps"] == "250")
    chosen = baselines(changed(results, better, val_psnr=lambda column: column + 5, psnr=lambda column: column + 0.25))
    assert all(one.fixed.num_steps == 250 for _, one in chosen), "chosen on validation images"
    assert all(one.gains["psnr"].mean == pytest.approx(0.75) for _, one in chosen)
    said = report.answer(changed(results, results.frame["solver"] == DECODED, psnr=lambda column: column + 1.5))
    assert "for 4 of 4 pairs: LDPS on Gaussian blur (+0.50" in said[2]
    none = dataclasses.replace(results, frame=results.frame[results.frame["start"] != FIXED])
    assert report.baselines_section(none) is None


def test_every_cost_is_counted(results: StudyResults) -> None:
    dearer = results.frame["start"] == MATCHED
    found = changed(results, dearer, flops=lambda column: 4 * column)
    html = str(report.saving_section(found).html)
    assert "Compute, times" in html
    claim = claim_of(read_pairs(found)[0])
    assert claim is not None
    assert {name: ratio.mean for name, ratio in savings(claim).items()} == {
        "nfe": pytest.approx(32),
        "flops": pytest.approx(8),
        "seconds": pytest.approx(32),
    }


def test_the_run_that_is_judged_is_chosen_on_validation_and_not_on_test(results: StudyResults) -> None:
    better = (results.frame["start"] == MATCHED) & (results.frame["num_steps"] == "250")
    runs = [read_pairs(r)[0].flash for r in (results, changed(results, better, val_psnr=lambda column: column + 5))]
    assert [run.num_steps for run in runs if run is not None] == [500, 250]
    test = read_pairs(changed(results, better, psnr=lambda column: column + 5))[0].flash
    assert test is not None
    assert test.num_steps == 500


def test_the_baseline_is_the_best_grid_on_validation(results: StudyResults) -> None:
    """A published grid that is worse than a shorter one would be a straw man."""
    shorter = (results.frame["start"] == FULL) & (results.frame["num_steps"] == "200")
    pair = read_pairs(changed(results, shorter, val_psnr=lambda column: column + 2))[0]
    assert pair.baseline is not None
    assert pair.baseline.num_steps == 200
    assert pair.flash is not None
    assert pair.flash.num_steps == 250, "a tenth of 200 evaluations"
    assert read_pairs(changed(results, shorter, psnr=lambda column: column + 2))[0].baseline.num_steps == 800  # type: ignore[union-attr]


@pytest.mark.parametrize(("start", "named"), [(FULL, "pure noise, DDPM, 800 steps"), (MATCHED, "SNR match, 500 steps")])
def test_an_optimum_at_the_edge_of_its_search_proves_nothing(start: str, named: str, results: StudyResults) -> None:
    mine = (results.frame["start"] == start) & (results.frame["solver"] == "ldps")
    open_search = changed(results, mine, at_edge=lambda column: ~column)
    claim = claim_of(read_pairs(open_search)[0])
    assert claim is not None
    assert claim.verdict == "cannot be told"
    first, _, _, *others = report.answer(open_search)
    assert first.startswith("In part: for 2 of 4")
    assert f"(the best step size of {named} lies at an end of what was tried)" in others[0]


def test_a_run_that_is_not_cheap_enough_is_not_judged(results: StudyResults) -> None:
    matched = (results.frame["start"] == MATCHED) & (results.frame["num_steps"] == "500")
    flash = read_pairs(changed(results, matched, nfe=lambda column: column + 60))[0].flash
    assert flash is not None
    assert flash.num_steps == 250
    both = read_pairs(changed(results, results.frame["start"] == MATCHED, nfe=lambda column: 100 + column))[0]
    assert both.flash is not None
    assert both.flash.num_steps == 250, "the cheapest"
    assert claim_of(both).failures[-1] == "NFE are not 10 times fewer"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("column", "change", "failure"),
    [
        ("psnr", -1.0, "PSNR is lower"),
        ("ssim", -0.1, "SSIM (reflected borders) is lower"),
        ("lpips", 0.1, "LPIPS is higher"),
        ("seconds", 1.0, "time is not 7 times less"),
    ],
)
def test_what_fails_is_named(column: str, change: float, failure: str, results: StudyResults) -> None:
    mine = (results.frame["start"] == MATCHED) & (results.frame["solver"] == "ldps")
    worse = changed(results, mine, **{column: lambda values: values + change})
    assert claim_of(read_pairs(worse)[0]).failures == [failure]  # type: ignore[union-attr]
    first, _, _, *others = report.answer(worse)
    assert first.startswith("In part: for 2 of 4")
    assert f"the claim does not hold ({failure})" in others[0]
    assert report.claim_section(worse).html.count("does not hold") == 2


def test_ssim_is_that_of_valid_windows_where_all_rows_have_it(results: StudyResults, tmp_path: Path) -> None:
    def page(frame: pd.DataFrame) -> str:
        drawn, answer = draw(study, dataclasses.replace(results, frame=frame), tmp_path)
        return " ".join([*answer, drawn.read_text()])

    both = results.frame.assign(ssim_valid=results.frame["ssim"] - 0.05)
    text = page(both)
    assert "SSIM gained" in text
    assert "reflected" not in text
    assert "0.005 of SSIM and 0.010 of LPIPS)" in text
    # one old cell, and all are compared by what it has
    old = both["ssim_valid"].where(both["cell"] != both["cell"].iloc[0])
    for frame in (both.assign(ssim_valid=old), results.frame):
        text = page(frame)
        assert "SSIM (reflected borders) gained" in text
        assert "0.005 of SSIM (reflected borders) and 0.010 of LPIPS)" in text
        assert "SSIM gained" not in text


def test_a_loss_of_ssim_counts_alike_by_either() -> None:
    assert MARGINS["ssim"] == MARGINS["ssim_valid"]


def test_a_loss_within_its_interval_is_no_failure(results: StudyResults) -> None:
    rng = np.random.default_rng(3)
    mine = results.frame["start"] == MATCHED
    noisy = changed(results, mine, psnr=lambda column: column - GAIN - 0.01 + rng.normal(0, 1, len(column)))
    claim = claim_of(read_pairs(noisy)[0])
    assert claim is not None
    assert claim.gains["psnr"].low < -0.1 < 0 < claim.gains["psnr"].high
    assert claim.failures == []
    assert claim.undecided == ["PSNR from so few images"]
    assert claim.verdict == "cannot be told", "neither is it a proof that nothing was lost"
    first, _, _, *others = report.answer(noisy)
    assert first.endswith("it cannot be told.")
    assert "the claim cannot be told (PSNR from so few images)" in others[0]


def test_a_loss_too_small_to_count_leaves_the_claim_standing(results: StudyResults) -> None:
    rng = np.random.default_rng(3)
    mine = results.frame["start"] == MATCHED
    slight = changed(results, mine, psnr=lambda column: column - GAIN - 0.01 + rng.normal(0, 0.01, len(column)))
    claim = claim_of(read_pairs(slight)[0])
    assert claim is not None
    assert claim.gains["psnr"].low > -0.1
    assert claim.undecided == []


def test_nfe_are_read_from_the_line_on_a_logarithmic_axis() -> None:
    nfe = np.array([10.0, 100.0, 1000.0])
    assert nfe_to_reach(nfe, np.array([-1.0, 1.0, 2.0])) == pytest.approx(10**1.5)
    assert nfe_to_reach(nfe, np.array([-2.0, -1.0, 0.0])) == pytest.approx(1000)
    assert nfe_to_reach(nfe, np.array([0.5, -1.0, 2.0])) == 10
    assert nfe_to_reach(nfe, np.array([-3.0, -2.0, -1.0])) == math.inf


def test_the_speed_up_is_that_of_the_known_line() -> None:
    # half an octave of steps below the longest grid
    results = make_results(gain=-PER_OCTAVE / 2)
    found = speed_up(read_pairs(results)[0])
    assert found is not None
    assert found.mean == pytest.approx(800 / 2**0.5 / 25, rel=1e-6)
    assert found.low < found.mean < found.high
    assert found.high / found.low < 1.5
    assert re.search(r"For the same PSNR, pure noise needs 22\.6 \[\d+\.\d, \d+\.\d\] times", report.answer(results)[3])


def test_a_speed_up_that_may_be_infinite_says_so() -> None:
    found = speed_up(read_pairs(make_results(gain=0.0))[0])
    assert found is not None
    assert math.isfinite(found.low)
    assert math.isinf(found.high)
    assert "never]" in report.claim_section(make_results(gain=0.0)).html


WITHOUT_CONTROLS: list[Any] = [section for section in report.SECTIONS if section is not report.controls_section]


@pytest.mark.parametrize("section", WITHOUT_CONTROLS)
def test_every_section_names_every_pair(results: StudyResults, section: Any) -> None:
    html = section(results).html
    for words in ("Gaussian blur", "random inpainting", "LDPS", "PSLD"):
        assert words in html.lower()
    assert "nan" not in re.sub(r'base64,[^"]*|data-value="nan"', "", html).lower()


def test_tables_state_step_sizes_trials_edges_and_divergence(results: StudyResults) -> None:
    html = report.tables_section(results).html
    assert "2 of 3" in html
    assert "No chosen value lies at an end" in html
    mine = (results.frame["start"] == MATCHED) & (results.frame["solver"] == "psld")
    html = report.tables_section(changed(results, mine, at_edge=lambda _: True)).html
    assert "PSLD on random inpainting, SNR match, 500 steps" in html
    assert "LDPS on" not in html


@pytest.mark.parametrize("num_images", [1, 4])
def test_small_results_are_reported_without_warnings(num_images: int) -> None:
    small = make_results(num_images, lpips=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(section(small).html for section in WITHOUT_CONTROLS)
        assert all(report.answer(small))


def test_unfinished_results_are_reported(results: StudyResults) -> None:
    for lacking in (FULL, MATCHED):
        frame = results.frame[results.frame["start"] != lacking].reset_index(drop=True)
        partial = dataclasses.replace(results, frame=frame)
        assert "cannot say" in report.answer(partial)[0]
        drawn = {section: section(partial) for section in report.SECTIONS}
        absent = {section for section, found in drawn.items() if found is None}
        assert absent == {report.baselines_section, report.controls_section, report.examples_section}
        assert all(found.html for found in drawn.values() if found is not None)


def test_other_images_and_other_axes_are_refused(results: StudyResults) -> None:
    other = results.frame["start"] == MATCHED
    with pytest.raises(UserError, match="different images"):
        report.answer(changed(results, other, image_id=lambda ids: ids + 1))
    with pytest.raises(UserError, match="lack start"):
        read_pairs(dataclasses.replace(results, axes={n: v for n, v in results.axes.items() if n != "start"}))
    frame = results.frame.assign(num_steps="500")
    with pytest.raises(UserError, match="two cells are called"):
        read_pairs(dataclasses.replace(results, frame=frame))


def test_picture_is_a_png(results: StudyResults) -> None:
    assert report.main_figure(results).png().startswith(b"\x89PNG")
    decoded = dataclasses.replace(results, frame=results.frame.query("solver == 'decode_only'"))
    assert report.main_figure(decoded) is None


def test_the_cheapest_run_of_equal_quality_is_found_on_validation(results: StudyResults) -> None:
    where = (results.frame["solver"] == "ldps") & (results.frame["start"] == MATCHED)
    copies = results.frame[where].assign(solver=FEW)
    copies["cell"] = "few" + copies["cell"]
    copies["nfe"], copies["flops"] = copies["nfe"] / 5, copies["flops"] / 4
    # the longer grid is 0.05 dB below LDPS on validation images, the shorter one 1 dB; on test images 0.02 dB
    copies["val_psnr"] -= 0.05
    copies["psnr"] -= 0.02
    axes = {**results.axes, "solver": [*results.axes["solver"], FEW]}
    both = dataclasses.replace(results, frame=pd.concat([results.frame, copies], ignore_index=True), axes=axes)
    found = few_steps(read_pairs(both))
    assert list(found) == list(DEGRADATIONS)
    for few in found.values():
        assert (few.best.solver, few.best.num_steps) == ("ldps", 500)
        assert (few.cheap.solver, few.cheap.num_steps, few.cheap.nfe) == (FEW, 500, 5.0)
        assert few.gain.mean == pytest.approx(-0.02)
    sentence = next(line for line in report.answer(both) if line.startswith("Few steps on Gaussian blur"))
    assert "the fewest NFE are 5.0, of LDPS in few steps with 500 steps and 25 % of the FLOPs" in sentence
    assert few_steps(read_pairs(results)) == {}
