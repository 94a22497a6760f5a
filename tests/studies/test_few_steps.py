"""The report of the few-steps study, on rows made up from known effects, and its cells."""

import numpy as np
import pandas as pd
import pytest

from studies.few_steps.results import read
from studies.few_steps.sections import answer, each, overall
from studies.few_steps.study import METHODS, study
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults
from workbench.stages.measure.evaluate import Evaluate

GAIN = {("4.0", "125"): 0.0, ("None", "125"): -0.2, ("ldps", "500"): 0.3}
"""dB above the first method."""
NFE = {"125": 4.0, "500": 20.0}


def made_up(*, without: tuple[str, str] | None = None) -> StudyResults:
    """The decoded estimate is 1 dB below the first method; what gains d in PSNR loses d / 10 in LPIPS."""
    rng = np.random.default_rng(0)
    frames = []
    for degradation in ("jpeg", "haze"):
        base = 24 + rng.normal(0, 1, 32)
        for (share, steps), gain in GAIN.items():
            if degradation == "haze" and (share, steps) == without:
                continue
            frames.append(
                pd.DataFrame(
                    {
                        "image_id": np.arange(32),
                        "psnr": base + gain,
                        "psnr_decoded": base - 1,
                        "lpips": 0.2 + gain / 10,
                        "nfe": NFE[steps],
                        "flops": 1e9,
                        "residual_ratio": 1.0,
                        "degradation": degradation,
                        "share": share,
                        "steps": steps,
                        "cell": f"{degradation} {share} {steps}",
                    }
                )
            )
    axes = {"share": ["4.0", "None", "ldps"], "steps": ["125", "500"], "degradation": ["jpeg", "haze"]}
    return StudyResults("few_steps", "desk", "Which?", "run", axes, pd.concat(frames), {}, {}, [])


def test_the_answer_is_what_was_put_in() -> None:
    first, psnr, lpips = answer(read(made_up()))
    assert "MMPS, share 4, 125 steps" in first
    assert "1.00" in first
    assert "4.0 evaluations" in first
    assert "LDPS, 500 steps, by 0.30" in psnr
    assert "at 20.0 evaluations" in psnr
    assert "MMPS, 125 steps, by 0.0200" in lpips


def test_tables_are_paired_with_the_first_method() -> None:
    found = read(made_up())
    assert found.gain("LDPS, 500 steps", "lpips").mean() == pytest.approx(-0.03)
    assert found.psnr_gain("MMPS, 125 steps", "haze").std() == pytest.approx(0, abs=1e-9)
    html = overall(found).html + each(found).html
    assert "0.30" in html
    assert "-0.20" in html.replace("\N{MINUS SIGN}", "-")


def test_a_missing_cell_is_named() -> None:
    with pytest.raises(UserError, match="the same solvers and steps"):
        read(made_up(without=("ldps", "500")))


def test_methods_are_chosen_on_validation_images() -> None:
    for preset in ("desk", "photos"):
        cells = study.cells(preset)
        assert len(cells) == 6 * len(METHODS)
        for cell in cells:
            assert isinstance(cell.stage, Evaluate)
            assert cell.stage.split == "val"
