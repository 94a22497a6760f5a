"""The report of tuning, on a search whose answer is known."""

import json
from pathlib import Path

import pandas as pd
import pytest
from analytic_study import analytic_study
from cli_support import CommandLine

from studies._tuning_report import SECTIONS, answer
from studies.tuning import study
from workbench.degradations import GaussianBlur, GaussianNoise
from workbench.goal import Goal
from workbench.reference import find_reference
from workbench.results import TUNING, StudyResults
from workbench.running import cached_results
from workbench.stages.base import Runtime
from workbench.tuning.found import write_tuning
from workbench.tuning.tune import Options, tune


def found(root: Path, goal: Goal | None = None, trials: int = 20) -> StudyResults:
    definition = analytic_study(axes={"degradation": (GaussianBlur(), GaussianNoise())}, columns={})
    tuning = tune(
        "analytic", definition, "smoke", {}, Options(trials=trials, sampler="tpe", goal=goal or Goal()), Runtime(root)
    )
    evidence = {"tuning": json.loads(write_tuning(tuning, root).read_text())}
    return StudyResults("tuning", "smoke", "How much?", "run", {}, pd.DataFrame(), {}, {}, [], evidence)


def test_a_search_of_two_objectives_is_told_and_drawn(tmp_path: Path) -> None:
    results = found(tmp_path)
    said = " ".join(answer(results))
    assert "It is better, beyond its interval, on 2 of 2 tasks." in said
    assert "at no more NFE than the default's changes PSNR on test images by " in said
    assert "NFE instead of 50.0)" in said
    assert "most is due to offset db on Gaussian blur (" in said
    assert "Used on another task, a tuned setting differs from that task's own by −" in said
    assert "with trial " in said
    sections = [section(results) for section in SECTIONS]
    assert all(section is not None for section in sections)
    html = "".join(section.html for section in sections if section is not None)
    assert "Gaussian blur, default" in html
    assert "offset db (−3 to 9)" in html


def test_a_search_for_quality_alone_has_no_costs(tmp_path: Path) -> None:
    results = found(tmp_path, Goal(cost="none"), trials=12)
    said = " ".join(answer(results))
    assert "NFE" not in said
    assert "best on validation images changes PSNR" in said
    assert all(section(results) is not None for section in SECTIONS)


def test_before_the_search_the_page_says_how_to_begin(tmp_path: Path) -> None:
    results = StudyResults("tuning", "desk", "How much?", "run", {}, pd.DataFrame(), {}, {}, [])
    assert answer(results) == ["Nothing is tuned yet: python -m workbench tune tuning --preset desk"]
    assert all(section(results) is None for section in SECTIONS)


def test_what_was_tuned_for_other_cells_is_not_told(cli: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "studies" / "tuning" / "desk"
    folder.mkdir(parents=True)
    shipped = find_reference("tuning", "desk")
    assert shipped is not None
    (folder / TUNING).write_text(json.dumps({"tasks": {"other": {"points": [{"cell": "0" * 12}]}}}))
    assert cached_results("tuning", "desk", {}, Runtime(tmp_path))[1].evidence == shipped.evidence
    (folder / TUNING).write_text("{")
    refusal = cli.refuses("report", "tuning", "--runs", tmp_path)
    assert f"{TUNING} is damaged: delete it, and tune again" in refusal


@pytest.mark.parametrize("preset", ["desk", "full"])
def test_each_task_has_its_own_encoder_and_searches_all_that_the_study_names(preset: str) -> None:
    tasks = study.tasks(preset)
    assert len(tasks) >= 3
    for task in tasks:
        assert task.cell.severity_encoder.degradation == task.cell.degradation  # type: ignore[attr-defined]
        assert study.search.keys() <= task.search.keys()
