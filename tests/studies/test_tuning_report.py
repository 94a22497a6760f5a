"""The report of tuning, on a search whose answer is known."""

import json
from pathlib import Path

import pandas as pd
import pytest
from analytic_study import analytic_study
from command_line import CommandLine

from studies.tuning import sections
from studies.tuning.results import read
from studies.tuning.study import study
from workbench.degradations import GaussianBlur, GaussianNoise
from workbench.experiments.objective import Objective
from workbench.experiments.reference import find_reference
from workbench.experiments.results import TUNING, StudyResults
from workbench.experiments.run import cached_results
from workbench.experiments.tune.found import write_tuning
from workbench.experiments.tune.tune import Options, tune
from workbench.reporting import readable, spoken
from workbench.stages.runtime import Runtime


def found(root: Path, objective: Objective | None = None, trials: int = 20) -> StudyResults:
    definition = analytic_study(axes={"degradation": (GaussianBlur(), GaussianNoise())}, columns={})
    tuning = tune(
        "analytic",
        definition,
        "smoke",
        {},
        Options(trials=trials, sampler="tpe", objective=objective or Objective()),
        Runtime(root),
    )
    evidence = {"tuning": json.loads(write_tuning(tuning, root).read_text())}
    return StudyResults("tuning", "smoke", "How much?", "run", {}, pd.DataFrame(), {}, {}, [], evidence)


def test_a_search_of_two_objectives_is_told_and_drawn(tmp_path: Path) -> None:
    results = read(found(tmp_path))
    assert results.weightiest is not None
    assert results.weightiest.path == "start.offset_db"
    assert results.worst_transfer is not None
    assert results.worst_transfer.transfer.quality.mean < 0
    for name, regrets in results.regrets.items():
        assert regrets[-1] == 0
        assert regrets[results.needed[name] - 1] <= results.near
    gain, better, weightiest, transfer, trials = sections.answer(results)
    assert "at no more NFE than the default's, the settings change PSNR on test images by " in gain
    assert spoken(max(results.gains.values(), key=lambda one: one.mean), 2, " dB") in gain
    assert "excludes zero on 2 of 2 tasks" in better
    assert f"offset db matters most: on {readable(results.weightiest.task)} it explains " in weightiest
    assert spoken(results.worst_transfer.transfer.quality, 2, " dB") in transfer
    assert f"by trial {max(results.needed.values())} on" in trials
    drawn = [section(results) for section in study.report]
    assert all(section is not None for section in drawn)
    html = "".join(section.html for section in drawn)
    assert "Gaussian blur, default" in html
    assert "offset db (−3 to 9)" in html
    assert sections.main_figure(results).png().startswith(b"\x89PNG")


def test_a_search_for_quality_alone_has_no_costs(tmp_path: Path) -> None:
    results = read(found(tmp_path, Objective(cost="none"), trials=12))
    said = " ".join(sections.answer(results))
    assert "NFE" not in said
    assert "validation images, the settings change PSNR" in said
    assert [draw.__name__ for draw in study.report if draw(results) is None] == ["trials"], "it is the main figure"
    assert sections.main_figure(results) is not None


def test_before_the_search_the_page_says_how_to_begin() -> None:
    results = read(StudyResults("tuning", "desk", "How much?", "run", {}, pd.DataFrame(), {}, {}, []))
    assert sections.answer(results) == ["Nothing is tuned yet: python -m workbench tune tuning --preset desk"]
    assert all(section(results) is None for section in (*study.report, sections.main_figure))


def test_what_was_tuned_for_other_cells_is_not_told(cli: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "studies" / "tuning" / "desk"
    folder.mkdir(parents=True)
    shipped = find_reference("tuning", "desk")
    assert shipped is not None
    (folder / TUNING).write_text(json.dumps({"tasks": {"other": {"points": [{"cell": "0" * 12}]}}}))
    assert cached_results("tuning", "desk", {}, Runtime(tmp_path))[1].evidence == shipped.evidence
    (folder / TUNING).write_text("{")
    refusal = cli.refuses("report", "tuning", "--runs", tmp_path)
    assert f"{TUNING} is damaged: delete it and run tune again" in refusal


@pytest.mark.parametrize("preset", ["desk", "full"])
def test_each_task_has_its_own_encoder_and_searches_all_that_the_study_names(preset: str) -> None:
    tasks = study.tasks(preset)
    assert len(tasks) >= 3
    for task in tasks:
        assert task.cell.severity_encoder.degradation == task.cell.degradation  # type: ignore[attr-defined]
        assert study.search.keys() <= task.search.keys()
