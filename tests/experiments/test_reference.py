"""Results that ship: a study goes on from them, draws its page from them, and refuses those of another study."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import CommandLine
from small_study import tiny_cell

from workbench.core.config import UserError
from workbench.core.digests import DIGESTS, damaged
from workbench.degradations import GaussianBlur, GaussianNoise
from workbench.experiments import run as running
from workbench.experiments.reference import (
    CELLS,
    EXAMPLES,
    NUM_EXAMPLES,
    ROWS,
    Reference,
    find_reference,
    reference_root,
    write_reference,
)
from workbench.experiments.results import StudyResults
from workbench.experiments.run import gather_cached, run_study, ship
from workbench.experiments.study import Preset, Study, load_study
from workbench.notebook import open_study
from workbench.solvers import LDPS, NoGuidance
from workbench.stages.base import Stage
from workbench.stages.measure import evaluate
from workbench.stages.runtime import Runtime

BLUR, NOISE = GaussianBlur(), GaussianNoise()
SOLVERS = (LDPS(), NoGuidance())


def make_study(images: Path, **fields: Any) -> Study:
    return Study(
        cell=tiny_cell(images, **fields),
        axes={"degradation": (BLUR,), "solver": SOLVERS},
        presets={"full": Preset(), "wide": Preset(axes={"degradation": (BLUR, NOISE)})},
        support=lambda cells: {"rows": cells[0].stage},
        evidence=lambda folders: {"files": sorted(path.name for path in folders["rows"].glob("*.parquet"))},
    )


@pytest.fixture(scope="module")
def finished(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Runtime, Path, StudyResults]:
    """A runs folder in which the study is done, a root of references with its results, and the results."""
    root = tmp_path_factory.mktemp("shipped")
    runtime, references = Runtime(root / "runs"), root / "references"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_REFERENCE", str(references))
        patch.setattr(running, "load_study", lambda name: (make_study(images), "Is it small?"))
        results, _ = run_study("small", "full", {}, runtime)
        assert results is not None
        ship("small", "full", runtime, references / "small" / "full")
    return runtime, references, results


@pytest.fixture
def references(finished: tuple[Runtime, Path, StudyResults], images: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The references, and the study under the name "small"."""
    monkeypatch.setenv("WORKBENCH_REFERENCE", str(finished[1]))
    use(make_study(images), monkeypatch)
    return finished[1]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Runtime:
    """Another machine's runs folder."""
    return Runtime(tmp_path / "runs")


def use(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "load_study", lambda name: (study, "Is it small?"))


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError("nothing may be computed")

    monkeypatch.setattr(Stage, "_work", refused)


@pytest.mark.usefixtures("references", "no_work")
def test_results_are_there_without_compute(finished: tuple[Runtime, Path, StudyResults], elsewhere: Runtime) -> None:
    results, _ = run_study("small", "full", {}, elsewhere)
    assert results is not None
    _, _, expected = finished
    assert results.axes == expected.axes
    assert results.evidence == expected.evidence == {"files": ["per_image.parquet"]}
    assert results.identity == expected.identity
    assert results.provenance == expected.provenance
    pd.testing.assert_frame_equal(results.frame[expected.frame.columns], expected.frame, check_dtype=False, rtol=1e-6)
    _, reported, _ = gather_cached("small", "full", {}, elsewhere)
    pd.testing.assert_frame_equal(reported.frame, results.frame)


@pytest.mark.usefixtures("references", "no_work")
def test_pictures_are_those_that_were_kept(finished: tuple[Runtime, Path, StudyResults], elsewhere: Runtime) -> None:
    results, _ = run_study("small", "full", {}, elsewhere)
    assert results is not None
    for cell, kept in finished[2].examples.items():
        shipped = results.examples[cell]
        places = [list(kept["image_id"]).index(image) for image in shipped["image_id"]]
        assert len(places) == min(NUM_EXAMPLES, len(kept["image_id"]))
        for name in ("clean", "degraded", "decoded", "restored"):
            np.testing.assert_allclose(shipped[name], kept[name][places], atol=1e-6)


def test_figures_of_a_cells_images_together_ship(
    finished: tuple[Runtime, Path, StudyResults], images: Path, tmp_path: Path
) -> None:
    results, cells = finished[2], make_study(images).cells("full")
    first, second = (cell.identity for cell in cells)
    figures = {"kid": {"mean": 0.01, "low": 0.005, "high": 0.02, "num_images": 100}}
    write_reference(replace(results, sets={first: figures}), cells, {}, tmp_path / "reference")
    kept = Reference(tmp_path / "reference")
    assert (kept.sets(first), kept.sets(second)) == (figures, {})


@pytest.mark.usefixtures("references")
def test_a_wider_study_computes_what_does_not_ship(
    finished: tuple[Runtime, Path, StudyResults], images: Path, elsewhere: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(images)
    wider = Study(cell=study.cell, axes={**study.axes, "degradation": (BLUR, NOISE)}, presets={"full": Preset()})
    use(wider, monkeypatch)
    done: list[str] = []
    monkeypatch.setattr(evaluate.Evaluate, "ensure", Stage.ensure)
    work = evaluate.Evaluate.work

    def counted(self: evaluate.Evaluate, folder: Path, runtime: Runtime) -> None:
        done.append(self.degradation.kind)
        work(self, folder, runtime)

    monkeypatch.setattr(evaluate.Evaluate, "work", counted)
    results, _ = run_study("small", "full", {}, elsewhere)
    assert results is not None
    assert done == ["gaussian_noise", "gaussian_noise"]
    assert results.frame["cell"].nunique() == 4
    assert results.provenance["cells from the reference"] == 2
    # what came from the reference can be shipped again with the rest
    ship("small", "full", elsewhere, elsewhere.root / "again")
    assert len(Reference(elsewhere.root / "again").index["cells"]) == 4


@pytest.mark.usefixtures("references")
def test_a_reference_that_is_not_wanted_is_not_used(elsewhere: Runtime) -> None:
    with pytest.raises(UserError, match="3 of 3 cells and statistics are not computed yet"):
        gather_cached("small", "full", {}, elsewhere, use_reference=False)


OTHERS = {
    "seed": ({"seed": 1}, "seed: 0 there, 1 here"),
    "data": ({"data.size": 12}, "data.size: 16 there, 12 here"),
    "solver": ({"solver.guidance_scale": 0.5}, "solver.guidance_scale: 2.0 there, 0.5 here"),
}


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.usefixtures("references", "no_work")
def test_results_of_another_study_are_refused_with_what_differs(
    case: str, images: Path, elsewhere: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields, expected = OTHERS[case]
    use(make_study(images), monkeypatch)
    with pytest.raises(UserError, match="not computed yet.*does not have them.*" + expected):
        gather_cached("small", "full", fields, elsewhere)


@pytest.mark.usefixtures("references", "no_work")
def test_a_newer_version_of_a_stage_differs(elsewhere: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate.Evaluate, "version", 7)
    with pytest.raises(UserError, match="stage evaluate: version 1 there, version 7 here"):
        gather_cached("small", "full", {}, elsewhere)


def test_other_data_differ_by_their_fingerprint(
    references: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from small_study import write_images

    other = make_study(write_images(tmp_path / "images.npy", seed=1))
    use(other, monkeypatch)
    found = find_reference("small", "full")
    assert found is not None
    (difference,) = [d for d in found.differences(other.cells("full")) if d.startswith("data.")]
    assert "data.fingerprint" in difference


def test_comparison_is_by_image(
    references: Path,
    finished: tuple[Runtime, Path, StudyResults],
    elsewhere: Runtime,
    cli: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = cli("compare", "small", f"--runs={finished[0].root}")
    assert said.code == 0, said.err
    assert "0.00" in said.out
    assert "no cell is computed here" in cli.refuses("compare", "small", f"--runs={elsewhere.root}")
    monkeypatch.setenv("WORKBENCH_REFERENCE", str(elsewhere.root))
    assert "has no reference results" in cli.refuses("compare", "small", f"--runs={elsewhere.root}")


def test_shipping_needs_results(references: Path, elsewhere: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_REFERENCE", str(elsewhere.root))
    with pytest.raises(UserError, match="no cell is computed yet; run: python -m workbench study small"):
        ship("small", "full", elsewhere, elsewhere.root / "target")
    assert not (elsewhere.root / "target").exists()


def test_what_is_there_of_an_unfinished_study_ships(
    references: Path,
    images: Path,
    finished: tuple[Runtime, Path, StudyResults],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: CommandLine,
) -> None:
    study = make_study(images)
    use(Study(cell=study.cell, axes={**study.axes, "seed": (0, 1)}, presets={"full": Preset()}), monkeypatch)
    monkeypatch.setenv("WORKBENCH_REFERENCE", str(tmp_path))
    said = cli("ship", "small", f"--runs={finished[0].root}")
    assert said.code == 0, said.err
    assert "left out 2 cells that are not computed" in said.out
    shipped = find_reference("small", "full")
    assert shipped is not None
    assert len(shipped.index["cells"]) == 2
    # elsewhere they are what a run goes on from
    assert "2 of 4 cells" in cli.refuses("report", "small", "--preset=full", f"--runs={tmp_path / 'runs'}")


@pytest.mark.parametrize("name", [CELLS, ROWS, EXAMPLES, "evidence.json", "provenance.json"])
def test_a_damaged_reference_is_named(
    name: str, references: Path, elsewhere: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    mine = Path(shutil.copytree(references, tmp_path / "references"))
    monkeypatch.setenv("WORKBENCH_REFERENCE", str(mine))
    (mine / "small" / "full" / name).write_bytes(b"{")
    with pytest.raises(UserError, match=f"{mine}.* is damaged"):
        run_study("small", "full", {}, elsewhere)


@pytest.mark.parametrize(
    ("name", "content"),
    [(CELLS, "[]"), (CELLS, '{"cells": []}'), ("evidence.json", "null"), ("evidence.json", "[1]")],
)
def test_a_reference_of_another_shape_is_named(
    name: str, content: str, references: Path, elsewhere: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    mine = Path(shutil.copytree(references, tmp_path / "references"))
    monkeypatch.setenv("WORKBENCH_REFERENCE", str(mine))
    (mine / "small" / "full" / DIGESTS).unlink()
    (mine / "small" / "full" / name).write_text(content)
    with pytest.raises(UserError, match=f"{mine}.* is damaged"):
        run_study("small", "full", {}, elsewhere)


def test_a_reference_is_small_text_and_numbers(references: Path) -> None:
    folder = references / "small" / "full"
    assert (folder / DIGESTS).is_file()
    assert damaged(folder) == []
    index = json.loads((folder / CELLS).read_text())
    assert {record["labels"]["solver"] for record in index["cells"]} == {"ldps", "no_guidance"}
    assert index["stages"]["stage evaluate"] == "version 1"
    frame = pd.read_parquet(folder / ROWS)
    assert not {"float64", "object"} & {str(dtype) for dtype in frame.dtypes}


UNFINISHED = {("solvers", "full")}
"""References of studies that take hours, and go on from what is there."""
REFERENCES = [(path.parent.parent.name, path.parent.name) for path in sorted(reference_root().glob(f"*/*/{CELLS}"))]


ON_PHOTOGRAPHS = [pair for pair in REFERENCES if pair[1].startswith("photos")]


@pytest.mark.parametrize(("name", "preset"), [pair for pair in REFERENCES if pair not in ON_PHOTOGRAPHS])
def test_what_ships_is_of_the_study_as_it_stands(name: str, preset: str) -> None:
    require_current(name, preset)


@pytest.mark.shared
@pytest.mark.usefixtures("photographs")
@pytest.mark.parametrize(("name", "preset"), ON_PHOTOGRAPHS)
def test_what_ships_on_photographs_is_of_the_study_as_it_stands(name: str, preset: str) -> None:
    require_current(name, preset)


def test_results_on_photographs_are_read_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "runs"))
    study = open_study("adaptivity")
    results = study.results("photos")
    assert len(results.axes["solver"]) == 3
    assert "adapting the start to each image gains" in study.answer(results).html


def require_current(name: str, preset: str) -> None:
    """A reference has the study's cells and evidence, each complete."""
    reference = find_reference(name, preset)
    assert reference is not None
    study, _ = load_study(name)
    cells = study.cells(preset)
    there = [cell for cell in cells if cell.identity in reference]
    assert len(there) == len(reference.index["cells"])
    assert (name, preset) in UNFINISHED or reference.differences(cells) == []
    assert reference.supports(study.supporting(cells))
    for cell in there:
        rows = reference.rows(cell.stage.identity)
        assert len(rows) == cell.stage.num_images  # type: ignore[attr-defined]
        assert np.isfinite(rows["psnr"]).all()
