"""What the overhead study says of made-up costs."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from studies.overhead import paper, sections
from studies.overhead.results import ASSUMED_NFE, read
from studies.overhead.study import restoration, study
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.measure.measure_cost import START

MILLISECONDS = {"severity encoding": 2.0, "start rule": 20.0, "reverse step": 10.0, "decoding": 3.0}
"""Of one image with the tiny autoencoder; kl costs twice as much, its encoding ten times."""
NFE = 20
TINY, SLOW = ("tiny", 32, 64), ("kl", 32, 64)


def make_results(evidence: bool = True) -> StudyResults:
    frames = []
    for autoencoder in ("tiny", "kl"):
        rows = [
            {
                "operation": name,
                # median 1, whatever the outlier does
                "seconds": 64 * cost * times / 1e3 * factor,
                "flops": 64 * cost * 1e9 * factor,
                "peak_bytes": 5e6,
                "repeat": repeat,
            }
            for name, cost in MILLISECONDS.items()
            for factor in [(10 if name == "severity encoding" else 2) if autoencoder == "kl" else 1]
            for repeat, times in enumerate((0.9, 1.0, 9.0))
        ]
        frame = pd.DataFrame(rows).assign(autoencoder=autoencoder, cell=autoencoder, device="CPU x86_64", threads=2)
        frames.append(frame.assign(**{"image size": "32", "batch": "64"}))
    axes = {"autoencoder": ["tiny", "kl"], "image size": ["32"], "batch": ["64"]}
    measured = {"nfe": [NFE - 1, NFE + 1], "seconds": [0.2, 0.2], "start_seconds": [0.02, 0.02]}
    return StudyResults(
        "overhead", "desk", "What does it cost?", "command", axes, pd.concat(frames, ignore_index=True),
        {"tiny": {}, "kl": {}}, {}, [], measured if evidence else {},
    )  # fmt: skip


def test_shares_are_those_of_the_made_up_costs() -> None:
    found = read(make_results())
    assert list(found.seconds.index) == [TINY, SLOW]
    one = found.costs["time"].loc[TINY, "reverse step"]
    assert (one.mean, one.low, one.high) == pytest.approx((0.01, 0.0095, 0.05))
    assert found.costs["flops"].loc[TINY, "reverse step"] == pytest.approx(1e10)
    assert found.nfe == NFE
    assert found.share()[TINY] == pytest.approx(2 / 205)
    assert found.share(START)[TINY] == pytest.approx(20 / 223)
    assert found.share()[SLOW] == pytest.approx(20 / 426)
    assert found.start_share is not None
    assert found.start_share.mean == pytest.approx(0.1)
    assert found.machines == ["CPU x86_64 with 2 threads"]


def test_each_sentence_has_the_number_of_the_results() -> None:
    results = make_results()
    encoding, step, rule, measured = sections.answer(read(results))
    assert encoding.startswith("More than hoped for: severity encoding takes at most 4.7 % of the time")
    assert "at least 1 times as long" in step
    assert "up to 9.0 % of the time" in rule
    assert "the whole start took 10.0 %" in measured
    tiny = results.frame[results.frame["autoencoder"] == "tiny"]
    met = sections.answer(read(dataclasses.replace(results, frame=tiny)))[0]
    assert met.startswith("Little: severity encoding takes at most 1.0 % of the time")


def test_without_measured_restorations_evaluations_are_assumed() -> None:
    found = read(make_results(evidence=False))
    assert found.nfe == ASSUMED_NFE
    assert len(sections.answer(found)) == 3
    assert "an assumption" in sections.share_section(found).html


def test_sections_show_every_setting_and_operation() -> None:
    found = read(make_results())
    html = "".join(drawn.html for section in study.report if (drawn := section(found)) is not None)
    for words in ("tiny, 32 px, batch 64", "KL, 32 px, batch 64", *MILLISECONDS, "Peak", "quartiles"):
        assert words in html


def test_memory_that_is_not_told_is_not_available() -> None:
    results = make_results()
    unknown = dataclasses.replace(results, frame=results.frame.assign(peak_bytes=np.nan))
    assert "n/a" in sections.parts_section(read(unknown)).html


def test_another_axis_is_refused() -> None:
    results = make_results()
    with pytest.raises(UserError, match="no other of several values"):
        read(dataclasses.replace(results, axes={**results.axes, "solver": ["ldps", "psld"]}))


@pytest.mark.parametrize(("preset", "num_cells", "restores"), [("smoke", 4, False), ("desk", 18, True)])
def test_cells_of_the_presets(preset: str, num_cells: int, restores: bool) -> None:
    cells = study.cells(preset)
    assert len(cells) == num_cells
    assert restoration(cells) == ({"restoration": Evaluate()} if restores else {})


def paper_results() -> StudyResults:
    """Counts of two models and two solvers, of which a step costs 1 and 4 TFLOP."""
    rows = [
        {
            "model": model,
            "title": title,
            "solver": solver,
            "cell": f"{model} {solver}",
            "prior_parameters": 1e9,
            "decoder_flops": 0.0,
            "severity_flops": 1e11,
            "step_flops": step,
            "step_activation_bytes": size * 2.0**30,
        }
        for model, title, size in (("small", "Small, 64 px", 2), ("large", "Large, 512 px", 40))
        for solver, step in (("ldps", 1e12), ("mmps", 4e12))
    ]
    return dataclasses.replace(make_results(), frame=pd.DataFrame(rows), axes=("model", "solver"))


def test_on_paper_a_tenth_of_the_steps_saves_a_little_less_than_nine_tenths() -> None:
    found = paper.read(paper_results())
    assert found.saved.loc["Small, 64 px", "ldps"] == pytest.approx(1000 / 100.1)
    assert study.answer is not None
    assert study.main_figure is not None
    said = " ".join(study.answer(found))
    assert "40 GiB of activations for one image (Large, 512 px" in said
    assert "Heat map of the saving" in study.main_figure(found).html()
    drawn = [section(found) for section in study.report]
    assert [section is None for section in drawn] == [False, True, True]
    assert "1000.0" in drawn[0].html
