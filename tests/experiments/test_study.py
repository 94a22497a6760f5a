import ast
import dataclasses
import importlib
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_study import EVALUATION, NETWORKS, source_overrides, tiny_cell

from workbench.autoencoders import Tiny
from workbench.core.config import UserError, parse_overrides, plain
from workbench.degradations import GaussianBlur, GaussianNoise
from workbench.experiments import run as running
from workbench.experiments import study as study_module
from workbench.experiments.catalogue import module_of, study_names
from workbench.experiments.run import gather_cached, run_study, study_folder
from workbench.experiments.study import Preset, Study, load_study
from workbench.severity.start import SNRMatch
from workbench.severity.untrained import NoEncoder
from workbench.solvers import LDPS, NoGuidance
from workbench.stages import cache
from workbench.stages.base import Stage
from workbench.stages.provenance import PROVENANCE
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime

ENCODER = "severity_encoder.degradation"
BLUR, NOISE = GaussianBlur(), GaussianNoise()


@pytest.fixture
def study(images: Path) -> Study:
    return Study(
        cell=tiny_cell(images),
        axes={ENCODER: (BLUR, NOISE), "degradation": (BLUR, NOISE), "start.offset_db": (0.0, 3.0)},
        columns={ENCODER: "encoder"},
        presets={
            "desk": Preset(),
            "wide": Preset({"num_images": 2}, {"start.offset_db": (0.0, 1.0, 2.0)}),
            "changed": Preset({"autoencoder.width": 16}, {"autoencoder": (Tiny(), Tiny(seed=1))}),
            "joined": Preset(
                {"solver.guidance_scale": 0.5},
                grids=(
                    {
                        "severity_encoder": (NoEncoder(),),
                        "degradation": (BLUR,),
                        "start": (SNRMatch(variance="residual"),),
                    },
                    {ENCODER: (NOISE,), "degradation": (NOISE,), "solver": (NoGuidance(),)},
                ),
            ),
        },
    )


def at(study: Study, preset: str, path: str, overrides: dict[str, Any] | None = None) -> list[Any]:
    return [study_module.value_at(cell.stage, path) for cell in study.cells(preset, overrides)]


def test_cells_are_the_product_of_the_axes(study: Study) -> None:
    cells = study.cells("desk")
    assert [tuple(cell.labels.values()) for cell in cells] == [
        (encoder, degradation, offset)
        for encoder in ("gaussian_blur", "gaussian_noise")
        for degradation in ("gaussian_blur", "gaussian_noise")
        for offset in ("0.0", "3.0")
    ]
    assert {tuple(cell.labels) for cell in cells} == {("encoder", "degradation", "start.offset_db")}
    assert len({cell.stage.identity for cell in cells}) == 8
    for cell in cells:
        assert study_module.value_at(cell.stage, ENCODER).kind == cell.labels["encoder"]


def test_an_axis_that_follows_from_others_is_in_no_table(study: Study) -> None:
    hidden = dataclasses.replace(study, columns={ENCODER: None})
    assert {tuple(cell.labels) for cell in hidden.cells("desk")} == {("degradation", "start.offset_db")}
    assert len(hidden.cells("desk")) == 8


def test_presets_change_the_cell_and_replace_axes(study: Study) -> None:
    assert at(study, "wide", "start.offset_db") == [0.0, 1.0, 2.0] * 4
    assert set(at(study, "wide", "num_images")) == {2}
    assert set(at(study, "desk", "num_images")) == {EVALUATION["num_images"]}


def test_a_preset_reaches_into_what_an_axis_puts_in_place(study: Study) -> None:
    assert set(at(study, "changed", "autoencoder.width")) == {16}
    assert set(at(study, "changed", "autoencoder.seed")) == {0, 1}


def test_overrides_are_on_every_cell(study: Study) -> None:
    overrides = {"solver.guidance_scale": 0.25, "num_images": 3}
    assert set(at(study, "wide", "solver.guidance_scale", overrides)) == {0.25}
    assert set(at(study, "wide", "num_images", overrides)) == {3}


def test_cells_that_come_out_equal_are_one(study: Study) -> None:
    cells = study.cells("desk", {"start.offset_db": 1.5})
    assert [cell.labels["start.offset_db"] for cell in cells] == ["1.5"] * 4
    assert len(study.cells("desk", {f"{ENCODER}.kind": "mixture", "degradation.kind": "mixture"})) == 2


def test_grids_are_joined(study: Study) -> None:
    cells = study.cells("joined")
    assert len(cells) == 8 + 2
    # a path that another leads into is no column: the other's says which member it is
    assert tuple(cells[0].labels) == ("encoder", "degradation", "start.offset_db", "solver")
    assert tuple(cells[8].labels.values()) == ("none", "gaussian_blur", "0.0", "ldps")
    assert [cell.labels["solver"] for cell in cells[-2:]] == ["ldps", "no_guidance"]


def test_an_override_is_on_the_cells_that_have_its_field(study: Study) -> None:
    scales = [getattr(cell.stage.solver, "guidance_scale", None) for cell in study.cells("joined")]  # type: ignore[attr-defined]
    assert scales == [0.5] * 9 + [None]
    cells = study.cells("joined", {"severity_encoder.num_train_images": 7})
    recipes = [cell.stage.severity_encoder for cell in cells]  # type: ignore[attr-defined]
    assert [getattr(recipe, "num_train_images", None) for recipe in recipes] == [7] * 8 + [None, 7]
    with pytest.raises(UserError, match=r"unknown field 'severity_encoder\.num_images'"):
        study.cells("joined", {"severity_encoder.num_images": 7})


def test_cells_that_an_override_of_their_grids_axis_makes_impossible_are_left_out(study: Study) -> None:
    encoders = at(study, "joined", "severity_encoder.kind", {"start.variance": "max"})
    assert len(encoders) == 9  # the product of the axes, and the grid without guidance
    assert "none" not in encoders
    with pytest.raises(UserError, match=r"start\.variance=residual"):
        # in the first grid it is an error
        Study(study.cell, {"severity_encoder": (NoEncoder(),)}, presets={"desk": Preset()}).cells(
            "desk", {"start.variance": "max"}
        )
    with pytest.raises(UserError, match="num_steps"):
        study.cells("joined", {"sampler.num_steps": 5000})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"start.ofset_db": 1}, "ofset_db.*offset_db"),
        ({"solver.kind": "magic"}, "magic.*ldps"),
        ({"num_images": 0}, "num_images"),
        ({"sampler.num_steps": 2000}, "at most T"),
    ],
)
def test_bad_overrides_are_refused_with_what_there_is(study: Study, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        study.cells("desk", overrides)


def test_unknown_names_list_what_there_is(study: Study) -> None:
    with pytest.raises(UserError, match="unknown preset 'dsk'; available: desk, wide, changed"):
        study.cells("dsk")
    with pytest.raises(UserError, match=r"unknown study 'robust'; available: .*robustness.*zoo"):
        load_study("robust")
    with pytest.raises(UserError, match="unknown study '_trivial'"):
        load_study("_trivial")


@pytest.mark.parametrize("name", study_names())
def test_every_study_states_its_question_and_command(name: str) -> None:
    definition, question = load_study(name)
    assert question == ast.get_docstring(ast.parse(Path(importlib.import_module(module_of(name)).__file__).read_text()))
    assert f"python -m workbench study {name}" in question
    assert {"smoke", "desk"} <= set(definition.presets)


# the paper's scale begins from a model of one's own: tests/studies/test_solvers_paper.py makes a small one
PRESETS = [(name, preset) for name in study_names() for preset in load_study(name)[0].presets if preset != "paper"]


PHOTOGRAPHS = [
    pair for pair in PRESETS if pair[1].startswith("photos") or pair in (("domains", "desk"), ("domains", "nonlinear"))
]


@pytest.mark.parametrize(("name", "preset"), [pair for pair in PRESETS if pair not in PHOTOGRAPHS])
def test_every_study_validates_without_compute(name: str, preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_without_compute(name, preset, monkeypatch)


def check_without_compute(name: str, preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell is valid, is read back as it was written, and has labels of its own; no stage runs."""

    def refused(*_: Any) -> None:
        raise AssertionError("no stage may run here")

    monkeypatch.setattr(Stage, "ensure", refused)
    definition, _ = load_study(name)
    cells = definition.cells(preset)
    for cell in cells:
        cell.stage.check()
        assert type(cell.stage).parse(cell.stage.model_dump(mode="json")) == cell.stage
    for path, value in definition.preset(preset).overrides.items():
        assert value in [study_module.value_at(cell.stage, path) for cell in cells]
    labels = [tuple(cell.labels.values()) for cell in cells]
    assert len(set(labels)) == len(labels), "tables tell cells apart by their labels"


@pytest.mark.shared
@pytest.mark.usefixtures("photographs")
@pytest.mark.parametrize(("name", "preset"), PHOTOGRAPHS)
def test_every_study_on_photographs_validates_without_compute(
    name: str, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_without_compute(name, preset, monkeypatch)


SMALL_AXES = {"degradation": (BLUR,), "solver": (LDPS(), NoGuidance())}


@pytest.fixture
def named(study: Study, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study of two cells under the name "small"."""
    small = Study(cell=study.cell, axes=SMALL_AXES, presets={"desk": Preset()})
    monkeypatch.setattr(running, "load_study", lambda name: (small, "Is it small?"))
    return small


@pytest.fixture(scope="module")
def finished(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder in which that study is done."""
    root = tmp_path_factory.mktemp("finished")
    small = Study(cell=tiny_cell(images), axes=SMALL_AXES, presets={"desk": Preset()})
    for cell in small.cells("desk"):
        cell.stage.ensure(Runtime(root))
    return root


@pytest.fixture
def runtime(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """A copy of it, that a test may harm."""
    monkeypatch.setattr(cache, "_checked", set())
    return Runtime(Path(shutil.copytree(finished, tmp_path / "runs")))


def test_gathered_results_are_the_rows_of_the_cells(named: Study, runtime: Runtime) -> None:
    results, folder = run_study("small", "desk", {}, runtime)
    assert results is not None
    cells = named.cells("desk")
    assert results.axes == {"degradation": ["gaussian_blur"], "solver": ["ldps", "no_guidance"]}
    assert results.question == "Is it small?"
    assert set(results.examples) == {cell.stage.identity for cell in cells}
    for cell in cells:
        rows = results.frame[results.frame["cell"] == cell.stage.identity].reset_index(drop=True)
        own = pd.read_parquet(cell.stage.folder(runtime) / ROWS)
        pd.testing.assert_frame_equal(rows[own.columns], own)
        assert (rows["solver"] == cell.labels["solver"]).all()
        clean = results.examples[cell.stage.identity]["clean"]
        assert clean.shape == (len(own), 16, 16, 1)
        assert clean.dtype == np.float32
        assert 0.1 < clean.max() <= 1
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "results.parquet"), results.frame)
    assert not list(folder.glob("*.partial"))
    _, cached, cached_folder = gather_cached("small", "desk", {}, runtime)
    assert cached_folder == folder
    pd.testing.assert_frame_equal(cached.frame, results.frame)


def test_results_of_missing_cells_are_refused_and_nothing_is_computed(named: Study, runtime: Runtime) -> None:
    shutil.rmtree(named.cells("desk")[1].stage.folder(runtime))
    with pytest.raises(UserError, match="1 of 2 cells and statistics are not computed yet; run: python"):
        gather_cached("small", "desk", {}, runtime)
    with pytest.raises(UserError, match="2 of 2"):
        gather_cached("small", "desk", {"seed": 5}, runtime)
    assert not named.cells("desk")[1].stage.is_cached(runtime)


def test_results_of_a_damaged_cell_are_refused(named: Study, runtime: Runtime) -> None:
    rows = named.cells("desk")[0].stage.folder(runtime) / ROWS
    rows.write_bytes(rows.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{ROWS} was changed or truncated"):
        gather_cached("small", "desk", {}, runtime)


def test_splits_stand_side_by_side_in_a_column(named: Study, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    both = Study(cell=named.cell, axes={"split": ("val", "test")}, presets={"desk": Preset()})
    monkeypatch.setattr(running, "load_study", lambda name: (both, ""))
    results, _ = run_study("small", "desk", {}, runtime)
    assert results is not None
    assert results.frame.groupby("split")["measurement_set"].nunique().to_dict() == {"test": 1, "val": 1}
    assert results.frame["measurement_set"].nunique() == 2


@pytest.mark.parametrize("axis", [{"seed": (0, 1)}, {"num_images": (4, 6)}])
def test_cells_on_different_measurements_are_refused(
    axis: dict[str, Any], named: Study, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlike = Study(cell=named.cell.replace({"degradation": BLUR}), axes=axis, presets={"desk": Preset()})
    monkeypatch.setattr(running, "load_study", lambda name: (unlike, ""))
    with pytest.raises(UserError, match="different images or noise"):
        run_study("small", "desk", {}, runtime)


def test_too_many_images_are_refused_before_anything_runs(named: Study, tmp_path: Path) -> None:
    runtime = Runtime(tmp_path / "runs")
    with pytest.raises(UserError, match="the split has 20"):
        run_study("small", "desk", {"num_images": 21}, runtime)
    assert not (runtime.root / "stages").exists()


def test_the_command_reproduces_the_overrides(named: Study, runtime: Runtime) -> None:
    overrides = {"prior.block_out_channels": [16, 32], "num_images": 6, "split": "test"}
    results, folder = run_study("small", "desk", overrides, runtime)
    assert results is not None
    words = shlex.split(results.command)
    assert words[:6] == ["python", "-m", "workbench", "study", "small", "--preset"]
    assert parse_overrides(words[7:]) == overrides
    assert folder == study_folder(runtime, "small", "desk", overrides) != study_folder(runtime, "small", "desk", {})


def test_a_study_without_rows_has_no_results(
    named: Study, runtime: Runtime, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []
    prior = named.cell.prior_stage()
    weights_only = Study(
        cell=prior,
        axes={"prior.seed": (0,)},
        presets={"desk": Preset()},
        finish=lambda cells, folder, runtime: seen.append(folder),
    )
    monkeypatch.setattr(running, "load_study", lambda name: (weights_only, ""))
    results, folder = run_study("small", "desk", {}, runtime)
    assert results is None
    assert seen == [folder]
    with pytest.raises(UserError, match="no rows"):
        gather_cached("small", "desk", {}, runtime)


def test_cells_share_what_they_can(named: Study, runtime: Runtime) -> None:
    """Two solvers need one autoencoder, one prior and one severity encoder."""
    made = sorted(path.parent.parent.name for path in runtime.root.glob(f"stages/*/*/{PROVENANCE}"))
    assert made == ["encode_latents"] * 2 + ["evaluate"] * 2 + ["train_autoencoder", "train_prior", "train_severity"]


def test_overrides_for_tests_are_those_of_the_cell(images: Path) -> None:
    cell = tiny_cell(images)
    for path, value in {**source_overrides(images), **NETWORKS, **EVALUATION}.items():
        assert study_module.setting_at(cell, path) == plain(value)
