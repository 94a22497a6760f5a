"""The report of domains, on rows made up from a known curve of quality, and its cells."""

import numpy as np
import pandas as pd
import pytest

from studies.domains import sections
from studies.domains.results import CCDF, MATCHED, MISSING, PURE, Domains, read
from studies.domains.study import NFE, NUM_STEPS, study
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults
from workbench.severity.start import Fixed, MissingNoise
from workbench.stages.measure.evaluate import Evaluate

NUM = 40
PURE_NFE = 30


def made_up(gain: float = 0.5, kurtosis: float = 3.0, over_confident: float = 1.0) -> StudyResults:
    """PSNR = 20 + log2(NFE) on average, and `gain` dB more from the matched start; full noise loses 1 dB."""
    rng = np.random.default_rng(0)
    s2, frames = np.exp(rng.normal(-2, 1, NUM)), []

    def add(rule: str, nfe: np.ndarray, more: float, label: str) -> None:
        psnr = 20 + np.log2(nfe).mean() + more + rng.normal(0, 0.1, NUM)
        columns = {
            "image_id": np.arange(NUM),
            "psnr": psnr,
            "psnr_degraded": 15.0,
            "psnr_decoded": 19.0,
            "psnr_ceiling": 30.0,
            "residual_ratio": 1.0,
            "nfe": nfe.astype(float),
            "flops": 1e9 * nfe,
            "s2": s2,
            "var_hat": s2 / over_confident,
            "severity": rng.random(NUM),
            "error_kurtosis": kurtosis,
            "error_neighbours": 0.02,
            "error_estimate": 0.0,
        }
        labels = {"domain": "chest_mr", "degradation": "mri", "rule": rule, "timestep": label}
        frames.append(pd.DataFrame({**columns, **labels, "cell": f"{len(frames):012x}"}))

    add(MATCHED, rng.permutation(np.repeat([2, 6], NUM // 2)), gain, "fused")
    add(PURE, np.full(NUM, PURE_NFE), 0.0, "full")
    for n in NFE:
        add(MISSING, np.full(NUM, n), 0.0, f"{n} evaluations")
        add(CCDF, np.full(NUM, n), -1.0, str(n))
    return StudyResults("domains", "desk", "Does it?", "run", {}, pd.concat(frames, ignore_index=True), {}, {}, [])


def sentences(found: Domains) -> str:
    return " ".join(sections.answer(found))


def test_the_best_fixed_start_is_compared_at_equal_cost() -> None:
    (operator,) = read(made_up()).operators
    assert float(operator.matched["flops"].mean()) == 4e9
    rule, fixed = operator.best_fixed()
    assert rule == MISSING
    assert float(fixed.mean()) == pytest.approx(22.0, abs=0.05), "of four evaluations each"
    assert operator.at_equal_cost(CCDF).mean() == pytest.approx(21.0, abs=0.05)
    # log2 of 2 and 6 is lower than that of 4 on average
    assert (operator.matched["psnr"] - fixed).mean() == pytest.approx(0.5 + (1 + np.log2(6)) / 2 - 2, abs=0.1)
    assert operator.savings == PURE_NFE / 4


def test_between_two_starts_images_are_shared_out() -> None:
    results = made_up()
    rows = results.frame
    rows.loc[rows["rule"] == MATCHED, "flops"] = 6e9
    (operator,) = read(results).operators
    four, eight = (operator.cells[MISSING, f"{n} evaluations"]["psnr"] for n in (4, 8))
    assert np.allclose(operator.at_equal_cost(MISSING), (four + eight) / 2)


def test_what_holds_and_what_breaks_is_said() -> None:
    (operator,) = read(made_up()).operators
    assert operator.rank == pytest.approx(1.0)
    assert operator.broken() == []
    said = sentences(read(made_up()))
    assert "On 1 of 1 operators" in said
    assert "takes 7.5 to 7.5 times fewer evaluations" in said
    assert "Assumptions do not hold" not in said
    wrong = read(made_up(gain=-4.0, kurtosis=4.5, over_confident=2.0))
    assert wrong.operators[0].broken() == ["the variance is right", "the error is Gaussian"]
    said = sentences(wrong)
    assert "lower on 1 (MRI)" in said
    assert "on 0 it is right within 23 %" in said
    assert "MRI (the variance is right)" in said


def test_every_section_is_drawn() -> None:
    found = read(made_up())
    pages = [draw(found) for draw in study.report]
    assert all(page is not None and "MRI" in str(page.html) for page in pages)
    assert "7.50" in str(sections.starts_section(found).html)
    assert sections.main_figure(found).description
    assert sections.example(found) == "000000000000"


def test_without_all_of_its_starts_there_is_no_report() -> None:
    results = made_up()
    rows = results.frame
    with pytest.raises(UserError, match="needs a matched start, pure noise, and both kinds of fixed starts"):
        read(StudyResults("domains", "desk", "?", "run", {}, rows[rows["rule"] != PURE], {}, {}, []))


@pytest.mark.shared
@pytest.mark.usefixtures("photographs")
def test_fixed_starts_take_as_many_evaluations_as_they_say() -> None:
    """The n-th timestep of the chain from its end."""
    stages = [cell.stage for cell in study.cells("desk")]
    fixed = [stage for stage in stages if isinstance(stage, Evaluate) and isinstance(stage.start, Fixed)]
    numbers = {
        len(chain) - next(i for i, time in enumerate(chain.time.tolist()) if time <= stage.start.timestep)
        for stage in fixed
        for chain in [stage.sampler.chain(stage.prior.levels(), (4, 8, 8))]
        if isinstance(stage.start, Fixed)
    }
    assert numbers == set(NFE)
    assert {stage.sampler.num_steps for stage in fixed} == {NUM_STEPS}
    missing = {stage.start.nfe for stage in stages if isinstance(stage, Evaluate)
               and isinstance(stage.start, MissingNoise)}  # fmt: skip
    assert missing == set(NFE)
