import dataclasses
import math
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from studies.solvers import sections
from studies.solvers.results import AXES, DECODED, FEW, FIXED, FULL, MARGINS, MATCHED, OFFICIAL, Claim, Pair, read
from studies.solvers.study import study
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults
from workbench.metrics import statistics
from workbench.reporting.publish import draw

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


def first(results: StudyResults) -> Pair:
    return read(results).pairs[0]


def claim_of(results: StudyResults) -> Claim:
    claim = first(results).claim
    assert claim is not None
    return claim


def html_of(results: StudyResults) -> str:
    found = read(results)
    return " ".join(drawn.html for section in study.report if (drawn := section(found)) is not None)


def test_the_claim_holds_with_the_known_figures(results: StudyResults) -> None:
    found = read(results)
    assert [(pair.solver, pair.degradation) for pair in found.pairs] == [(s, d) for d in DEGRADATIONS for s in SOLVERS]
    for claim in found.claims.values():
        assert claim.verdict == "holds"
        assert claim.over.num_steps == "800"
        assert claim.gains["psnr"].mean == pytest.approx(GAIN)
        assert claim.gains["ssim"].mean == pytest.approx(GAIN / 50)
        assert claim.gains["lpips"].mean == pytest.approx(GAIN / 80)
        assert claim.savings["nfe"].mean == claim.savings["seconds"].mean == pytest.approx(800 / 25)


def test_each_sentence_has_the_number_of_the_results(results: StudyResults) -> None:
    verdict, gain, fixed, over, decoded = sections.answer(read(results))
    assert verdict.startswith("Yes: for 4 of 4 pairs")
    assert f"gains {GAIN:.2f} dB [" in gain
    assert "takes 16 times fewer" in fixed
    assert "adds 0.00 dB [" in over
    assert "for 0 of 4 pairs." in decoded


def test_a_start_that_reads_no_severity_is_set_beside(results: StudyResults) -> None:
    """Fixed starts of these results are as good as SNR matching, at twice its evaluations."""
    for pair in read(results).pairs:
        assert pair.fixed is not None
        assert pair.decoded_over_noise is not None
        over_noise, matched, nearest = pair.fixed
        assert over_noise.run.num_steps == "500", "the better one on validation images"
        assert over_noise.savings["nfe"].mean == pytest.approx(800 / 50)
        assert matched.gains["psnr"].mean == pytest.approx(0, abs=1e-9)
        assert nearest.over.num_steps == "250", "as many evaluations as SNR matching takes"
        assert nearest.gains["psnr"].mean == pytest.approx(1)
        assert pair.decoded_over_noise.gains["psnr"].mean == pytest.approx(-1)
    better = (results.frame["start"] == FIXED) & (results.frame["num_steps"] == "250")
    chosen = read(changed(results, better, val_psnr=lambda column: column + 5, psnr=lambda column: column + 0.25))
    fixed = [pair.fixed.over_noise.run.num_steps for pair in chosen.pairs if pair.fixed is not None]
    assert fixed == ["250"] * 4, "chosen on validation images"
    none = dataclasses.replace(results, frame=results.frame[results.frame["start"] != FIXED])
    assert sections.fixed_section(read(none)) is None


def test_every_cost_is_counted(results: StudyResults) -> None:
    found = changed(results, results.frame["start"] == MATCHED, flops=lambda column: 4 * column)
    assert {name: ratio.mean for name, ratio in claim_of(found).savings.items()} == {
        "nfe": pytest.approx(32),
        "flops": pytest.approx(8),
        "seconds": pytest.approx(32),
    }


def test_runs_are_chosen_on_validation_and_not_on_test(results: StudyResults) -> None:
    """A published grid that is worse than a shorter one would be a straw man."""
    matched = (results.frame["start"] == MATCHED) & (results.frame["num_steps"] == "250")
    shorter = (results.frame["start"] == FULL) & (results.frame["num_steps"] == "200")

    def chosen(where: pd.Series, column: str) -> tuple[str, str]:
        claim = claim_of(changed(results, where, **{column: lambda values: values + 5}))
        return claim.over.num_steps, claim.run.num_steps

    assert chosen(matched, "psnr") == chosen(shorter, "psnr") == ("800", "500")
    assert chosen(matched, "val_psnr") == ("800", "250")
    assert chosen(shorter, "val_psnr") == ("200", "250"), "a tenth of 200 evaluations"


@pytest.mark.parametrize(("start", "named"), [(FULL, "pure noise, DDPM, 800 steps"), (MATCHED, "SNR match, 500 steps")])
def test_an_optimum_at_the_edge_of_its_search_proves_nothing(start: str, named: str, results: StudyResults) -> None:
    mine = (results.frame["start"] == start) & (results.frame["solver"] == "ldps")
    open_search = changed(results, mine, at_edge=lambda column: ~column)
    assert claim_of(open_search).verdict == "cannot be told"
    assert claim_of(open_search).undecided == [f"the best step size of {named} lies at an end of what was tried"]
    assert sections.answer(read(open_search))[0].startswith("In part: for 2 of 4")


def test_a_run_that_is_not_cheap_enough_is_not_judged(results: StudyResults) -> None:
    matched = (results.frame["start"] == MATCHED) & (results.frame["num_steps"] == "500")
    assert claim_of(changed(results, matched, nfe=lambda column: column + 60)).run.num_steps == "250"
    both = claim_of(changed(results, results.frame["start"] == MATCHED, nfe=lambda column: 100 + column))
    assert both.run.num_steps == "250", "the cheapest"
    assert both.failures[-1] == "NFE are not 10 times fewer"


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
    assert claim_of(worse).failures == [failure]
    html = sections.claim_section(read(worse)).html
    assert html.count("does not hold") == 2
    assert html.count(failure) == 2


def test_ssim_is_that_of_valid_windows_where_all_rows_have_it(results: StudyResults, tmp_path: Path) -> None:
    def page(frame: pd.DataFrame) -> str:
        drawn, _ = draw(study, dataclasses.replace(results, frame=frame), tmp_path)
        return drawn.read_text()

    both = results.frame.assign(ssim_valid=results.frame["ssim"] - 0.05)
    text = page(both)
    assert "SSIM gained" in text
    assert "reflected" not in text
    # one old cell, and all are compared by what it has
    old = page(both.assign(ssim_valid=both["ssim_valid"].where(both["cell"] != both["cell"].iloc[0])))
    assert "SSIM (reflected borders) gained" in old
    assert "SSIM gained" not in old


def test_a_loss_of_ssim_counts_alike_by_either() -> None:
    assert MARGINS["ssim"] == MARGINS["ssim_valid"]


def test_a_loss_within_its_interval_is_no_failure(results: StudyResults) -> None:
    rng = np.random.default_rng(3)
    mine = results.frame["start"] == MATCHED
    noisy = changed(results, mine, psnr=lambda column: column - GAIN - 0.01 + rng.normal(0, 1, len(column)))
    claim = claim_of(noisy)
    assert claim.gains["psnr"].low < -0.1 < 0 < claim.gains["psnr"].high
    assert claim.failures == []
    assert claim.undecided == ["PSNR from so few images"]
    assert claim.verdict == "cannot be told", "neither is it a proof that nothing was lost"


def test_a_loss_too_small_to_count_leaves_the_claim_standing(results: StudyResults) -> None:
    rng = np.random.default_rng(3)
    mine = results.frame["start"] == MATCHED
    slight = changed(results, mine, psnr=lambda column: column - GAIN - 0.01 + rng.normal(0, 0.01, len(column)))
    claim = claim_of(slight)
    assert claim.gains["psnr"].low > -0.1
    assert claim.undecided == []


def test_every_section_names_every_pair(results: StudyResults) -> None:
    found = read(results)
    for section in study.report:
        if section is sections.controls_section:
            continue
        drawn = section(found)
        assert drawn is not None
        for words in ("gaussian blur", "random inpainting", "ldps", "psld"):
            assert words in drawn.html.lower()
        assert "nan" not in re.sub(r'base64,[^"]*|data-value="nan"', "", drawn.html).lower()


@pytest.mark.parametrize("num_images", [1, 4])
def test_small_results_are_reported_without_warnings(num_images: int) -> None:
    small = make_results(num_images, lpips=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert html_of(small)
        assert all(sections.answer(read(small)))


def test_unfinished_results_are_reported(results: StudyResults) -> None:
    for lacking in (FULL, MATCHED):
        frame = results.frame[results.frame["start"] != lacking].reset_index(drop=True)
        partial = dataclasses.replace(results, frame=frame)
        assert "cannot say" in sections.answer(read(partial))[0]
        drawn = {section.__name__: section(read(partial)) for section in study.report}
        absent = {name for name, found in drawn.items() if found is None}
        assert absent == {"fixed_section", "controls_section", "examples_section"}


def test_other_images_and_other_axes_are_refused(results: StudyResults) -> None:
    other = results.frame["start"] == MATCHED
    with pytest.raises(UserError, match="different images"):
        sections.answer(read(changed(results, other, image_id=lambda ids: ids + 1)))
    with pytest.raises(UserError, match="needs the axes"):
        read(dataclasses.replace(results, axes={n: v for n, v in results.axes.items() if n != "start"}))
    frame = results.frame.assign(num_steps="500")
    with pytest.raises(UserError, match="two cells are called"):
        read(dataclasses.replace(results, frame=frame))


def test_without_diffusion_there_is_no_figure(results: StudyResults) -> None:
    decoded = dataclasses.replace(results, frame=results.frame.query("solver == 'decode_only'"))
    with pytest.raises(UserError, match="no solver that diffuses"):
        sections.main_figure(read(decoded))


def test_few_steps_are_a_line_of_the_solvers_figure(results: StudyResults) -> None:
    copies = results.frame.query(f"solver == 'ldps' and start == '{MATCHED}'").assign(solver=FEW)
    copies["cell"] = "few" + copies["cell"]
    both = dataclasses.replace(results, frame=pd.concat([results.frame, copies], ignore_index=True))
    assert sections.cost_section(read(both)).html.count("LDPS in few steps") == 1
    assert "in few steps" not in sections.cost_section(read(results)).html
