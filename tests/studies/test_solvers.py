from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from small_study import EVALUATION, NETWORKS, source_overrides
from study_process import run

from studies.solvers.study import study
from workbench.severity.start import Full
from workbench.stages.evaluate_tuned import EvaluateTuned
from workbench.stages.provenance import PROVENANCE

PAIRS = {
    (solver, degradation)
    for solver in ("ldps", "gml_dps", "psld", "resample")
    for degradation in ("gaussian_blur", "random_inpainting", "motion_blur_crf")
} - {("psld", "motion_blur_crf")}
RATE = 300.0
"""LDPS's network evaluations a second on two cores, batch 64."""
DESK_SECONDS = 40 * 60


def cells(preset: str) -> list[EvaluateTuned]:
    found = []
    for cell in study.cells(preset):
        assert isinstance(cell.stage, EvaluateTuned)
        found.append(cell.stage)
    return found


def evaluations(cell: EvaluateTuned) -> float:
    """Network evaluations of a cell from pure noise, its first trials and its final run."""
    trials = cell.num_values * cell.num_val_images if cell.tuned else 0
    return cell.sampler.num_steps * (trials + cell.num_images)


def of(cells: list[EvaluateTuned], solver: str, degradation: str, start: str) -> list[EvaluateTuned]:
    return [
        cell
        for cell in cells
        if (cell.solver.kind, cell.degradation.kind, cell.start.kind) == (solver, degradation, start)
    ]


def test_the_full_study_has_every_pair_from_every_start() -> None:
    found = cells("full")
    diffusing = [cell for cell in found if cell.solver.kind not in ("decode_only", "ldps_few")]
    assert {(cell.solver.kind, cell.degradation.kind) for cell in diffusing} == PAIRS
    assert len(PAIRS) == 11
    for solver, degradation in PAIRS:
        for start in ("fixed", "official", "snr_match"):
            assert of(found, solver, degradation, start)
        baseline = [cell.sampler.num_steps for cell in of(found, solver, degradation, "full")]
        assert max(baseline) == (500 if solver == "resample" else 1000)
        assert len(baseline) > 1
        published = max(of(found, solver, degradation, "full"), key=lambda cell: cell.sampler.num_steps)
        assert published.sampler.eta == (0 if solver == "resample" else 1)
    assert {cell.degradation.kind for cell in found if cell.solver.kind == "decode_only"} == {d for _, d in PAIRS}
    resample = [cell for _, degradation in PAIRS for cell in of(found, "resample", degradation, "full")]
    originals = [cell.solver for cell in resample if cell.sampler.num_steps == 500]
    assert {(solver.every, solver.gamma) for solver in originals} == {(10, 40.0)}  # type: ignore[union-attr]
    assert {cell.num_images for cell in found} == {128}
    few = [cell for cell in found if cell.solver.kind == "ldps_few"]
    assert {cell.degradation.kind for cell in few} == {degradation for _, degradation in PAIRS}
    assert {cell.start.kind for cell in few} == {"snr_match"}


@pytest.mark.parametrize("preset", ["smoke", "desk", "full"])
def test_encoders_match_and_all_runs_have_as_many_trials(preset: str) -> None:
    found = cells(preset)
    for cell in found:
        assert cell.severity_encoder.degradation == cell.degradation  # type: ignore[union-attr]
        assert (cell.tuned is None) == (cell.solver.kind == "decode_only")
    assert len({(c.num_values, c.ratio, c.num_val_images, c.max_extensions) for c in found}) == 1
    stages = {len(cell.upstream()) - len(cell.matched_stages()) for cell in found if cell.tuned}
    assert stages == {3 + found[0].num_values}


def test_desk_ends_in_forty_minutes() -> None:
    """By the rate of LDPS: PSLD's steps are half as dear again; other starts and two encoders take a fifth on top."""
    found = [cell for cell in cells("desk") if isinstance(cell.start, Full)]
    dearer = {"ldps": 1.0, "psld": 1.5}
    seconds = sum(dearer[cell.solver.kind] * evaluations(cell) / RATE for cell in found)
    assert 1.2 * seconds < DESK_SECONDS
    assert {cell.num_images for cell in found} == {64}


@pytest.fixture(scope="module")
def overrides(images: Path) -> dict[str, Any]:
    few = {name: value for name, value in EVALUATION.items() if name not in ("sampler.num_steps", "num_images")}
    return {**source_overrides(images), **NETWORKS, **few}


def test_the_smoke_study_runs_and_does_nothing_twice(overrides: dict[str, Any], tmp_path: Path) -> None:
    said = run(tmp_path, overrides, "solvers")
    num_cells = len(study.cells("smoke"))
    assert f"{num_cells} cells, 0 cached" in said
    (path,) = tmp_path.glob("studies/solvers/*/results.parquet")
    frame = pd.read_parquet(path)
    assert frame["cell"].nunique() == num_cells
    tuned = frame[frame["solver"] != "decode_only"]
    assert (tuned["num_trials"] >= 3).all()
    assert (frame[frame["solver"] == "decode_only"]["nfe"] == 0).all()
    (page,) = tmp_path.glob("studies/solvers/*/report/index.html")
    assert "Does the claim hold?" in page.read_text()
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob(f"stages/*/*/{PROVENANCE}")}
    assert f"{num_cells} cells, {num_cells} cached" in run(tmp_path, overrides, "solvers")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob(f"stages/*/*/{PROVENANCE}")} == made
