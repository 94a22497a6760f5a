"""What notebooks and scripts use: results, stages and sections of a study, and a restorer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import deepinv_factories
import pandas as pd
import pytest
import torch
from command_line import Trained
from small_study import tiny_cell

from workbench.core.config import UserError, parse_overrides
from workbench.degradations import GaussianBlur, GivenPhysics
from workbench.experiments import run as running
from workbench.experiments import study as study_module
from workbench.experiments.results import StudyResults
from workbench.experiments.study import Preset, Study
from workbench.notebook import OpenStudy, load_restorer, open_study
from workbench.reporting import Section, paragraph
from workbench.restoration import Restored
from workbench.severity.quick import QuickEncoder
from workbench.severity.untrained import Untrained
from workbench.solvers import LDPS, NoGuidance
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.provenance import PROVENANCE
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime


def counted(results: StudyResults, times: int = 1) -> Section:
    return Section("How many?", paragraph(str(times * len(results.frame))))


def nothing(results: StudyResults) -> Section | None:
    return None


@pytest.fixture
def small(images: Path, monkeypatch: pytest.MonkeyPatch) -> OpenStudy:
    """A study of two cells; it is also the one that is loaded by name."""
    definition = Study(
        cell=tiny_cell(images),
        axes={"solver": (LDPS(), NoGuidance())},
        presets={"desk": Preset(), "more": Preset({"num_images": 7})},
        report=(counted, nothing),
        answer=lambda results: [f"{results.num_images} < 7."],
    )
    for module in (running, study_module):
        monkeypatch.setattr(module, "load_study", lambda name: (definition, "Is it small?"))
    return OpenStudy("small", definition, "Is it small?")


@pytest.fixture(scope="module")
def runs(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder in which the first preset is done."""
    root = tmp_path_factory.mktemp("runs")
    for solver in (LDPS(), NoGuidance()):
        tiny_cell(images, solver=solver).ensure(Runtime(root))
    return root


def test_results_are_the_rows_that_are_there(small: OpenStudy, runs: Path, images: Path) -> None:
    results = small.results(runs=runs)
    assert results.axes == {"solver": ["ldps", "no_guidance"]}
    own = pd.read_parquet(tiny_cell(images).folder(Runtime(runs)) / ROWS)
    rows = results.frame.query("solver == 'ldps'").reset_index(drop=True)
    pd.testing.assert_frame_equal(rows[own.columns], own)
    assert not (runs / "studies").exists(), "to read writes nothing"


def test_results_are_read_from_the_runs_folder_of_the_environment(
    small: OpenStudy, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_RUNS", str(runs))
    assert len(small.results().frame) == 12


def test_results_that_are_nowhere_name_the_command(small: OpenStudy, runs: Path) -> None:
    with pytest.raises(UserError, match=r"2 of 2 .* python -m workbench study small --preset more$"):
        small.results("more", runs=runs)
    with pytest.raises(UserError, match=r"--preset desk --seed=5$"):
        small.results(overrides={"seed": 5}, runs=runs)


def test_results_that_ship_are_pointed_to(
    small: OpenStudy, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_REFERENCE", str(tmp_path))
    running.ship("small", "desk", Runtime(runs), tmp_path / "small" / "desk")
    assert len(small.results(runs=tmp_path / "none").frame) == 12
    with pytest.raises(UserError, match=r"\(reference results exist for preset desk\)$"):
        small.results("more", runs=tmp_path / "none")


def states(table: pd.DataFrame) -> dict[str, set[str]]:
    """The states of the stages of each kind."""
    return {str(stage): set(rows["state"]) for stage, rows in table.groupby("stage")}


def test_stages_say_what_is_cached_and_what_is_needed(small: OpenStudy, runs: Path, images: Path) -> None:
    table = small.stages(runs=runs)
    assert set(table["state"]) == {"cached"}
    assert table["identity"].is_unique
    assert table["stage"].tolist()[-2:] == ["evaluate", "evaluate"], "each after what it needs"
    for row in table.itertuples():
        assert row.seconds == json.loads((Path(row.folder) / PROVENANCE).read_text())["wall_seconds"]
    more = small.stages("more", runs=runs)
    assert states(more) == states(table) | {"evaluate": {"needed"}}
    assert (more["seconds"] > 0).all()
    assert tiny_cell(images).identity in set(table["identity"])


def test_stages_of_results_that_ship_are_not_needed(
    small: OpenStudy, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_REFERENCE", str(tmp_path))
    running.ship("small", "desk", Runtime(runs), tmp_path / "small" / "desk")
    found = states(small.stages(runs=tmp_path / "none"))
    assert found.pop("evaluate") == {"in the reference"}
    assert set.union(*found.values()) == {"not needed"}


def test_sections_are_those_of_the_page(small: OpenStudy, runs: Path) -> None:
    results = small.results(runs=runs)
    assert small.sections == ["counted", "nothing"]
    assert small.section("counted", results) == counted(results)
    assert small.section("counted", results, times=3).html == "<p>36</p>"
    with pytest.raises(UserError, match="has no section 'other'; available: counted, nothing"):
        small.section("other", results)
    with pytest.raises(UserError, match=r"small \(desk\) have no data for section 'nothing'"):
        small.section("nothing", results)
    assert "6 &lt; 7." in small.answer(results).html


def test_an_unknown_study_is_refused_with_those_there_are() -> None:
    assert open_study("robustness").question.startswith("Does a severity encoder")
    with pytest.raises(UserError, match=r"unknown study 'robust'; available: .*robustness"):
        open_study("robust")


@pytest.fixture
def overrides(trained: Trained) -> dict[str, Any]:
    """What makes the cell of a restorer the one that is trained."""
    return parse_overrides(trained.flags)


def kept(restored: Restored) -> Sequence[torch.Tensor]:
    return restored.x_hat, restored.start_timestep, restored.nfe


@pytest.mark.parametrize("operator", ["gaussian_blur", GaussianBlur()])
def test_a_restorer_is_that_of_the_cell(operator: Any, trained: Trained, overrides: dict[str, Any]) -> None:
    restorer = load_restorer(operator, encoder="matched", preset="smoke", overrides=overrides, runs=trained.runs)
    cell = Evaluate().replace(overrides)
    x = cell.data.split("test").first(3)
    measurement = restorer.degradation.measure(x.batch(slice(None)), torch.tensor([0.1, 0.5, 0.9]), x.ids, seed=0)
    own = cell.replace({"sampler.num_steps": restorer.sampler.num_steps}).restorer(Runtime(trained.runs))
    for found, expected in zip(
        kept(restorer.restore_all(measurement)), kept(own.restore_all(measurement)), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_a_restorer_needs_no_encoder(trained: Trained, overrides: dict[str, Any]) -> None:
    restorer = load_restorer("jpeg", encoder="none", overrides=without_encoder(overrides), runs=trained.runs)
    assert restorer.degradation.kind == "jpeg"
    assert isinstance(restorer.estimator, Untrained)
    assert restorer.start.variance.kind == "residual"  # type: ignore[attr-defined]


def without_encoder(overrides: dict[str, Any]) -> dict[str, Any]:
    return {path: value for path, value in overrides.items() if not path.startswith("severity_encoder.")}


def test_a_physics_object_is_restored_from(trained: Trained, overrides: dict[str, Any]) -> None:
    operator = GivenPhysics(physics=deepinv_factories.defocus(0.5), noise_std=0.05)
    given = {"overrides": without_encoder(overrides), "runs": trained.runs}
    restorer = load_restorer(operator, encoder="none", **given)  # type: ignore[arg-type]
    y = torch.rand(2, 1, 16, 16)
    restored = restorer.restore_all(operator.measurement(y))
    assert restored.ids.tolist() == [0, 1]
    assert restored.x_hat.shape == y.shape
    with pytest.raises(UserError, match="cannot train an encoder for a physics object"):
        load_restorer(operator, encoder="matched", **given)  # type: ignore[arg-type]


def test_a_photographs_encoder_serves_a_physics_object(tmp_path: Path) -> None:
    operator = GivenPhysics(physics=deepinv_factories.defocus(0.5), noise_std=0.05)
    restorer = load_restorer(operator, encoder="universal", runs=tmp_path)
    assert restorer.start.variance.kind == "fused"  # type: ignore[attr-defined]
    restored = restorer.restore_all(operator.measurement(torch.rand(1, 3, 32, 32)))
    assert bool(restored.x_hat.isfinite().all())
    with pytest.raises(UserError, match="fitted to an operator with a name: use fused or residual"):
        load_restorer(operator, encoder="universal", overrides={"start.variance": "non_blind"}, runs=tmp_path)


def test_an_estimator_is_fitted_to_a_physics_object(trained: Trained, overrides: dict[str, Any]) -> None:
    operator = GivenPhysics(physics=deepinv_factories.defocus(0.5), noise_std=0.05)
    brief = {**without_encoder(overrides), "severity_encoder.num_train_images": 64}
    restorer = load_restorer(operator, encoder="quick", overrides=brief, runs=trained.runs)
    assert isinstance(restorer.estimator, QuickEncoder)
    restored = restorer.restore_all(operator.measurement(torch.rand(2, 1, 16, 16)))
    assert bool(restored.x_hat.isfinite().all())
    assert not list(trained.runs.glob("stages/fit_estimator/*"))  # an object has no name to be kept under


@pytest.mark.parametrize("operator", ["gaussian_blur", GivenPhysics(physics=deepinv_factories.defocus(0.5))])
def test_another_methods_estimate_is_refined(operator: Any, trained: Trained, overrides: dict[str, Any]) -> None:
    reconstruct = deepinv_factories.Inverse()
    own = {**without_encoder(overrides), "severity_encoder.num_images": 80}
    restorer = load_restorer(operator, encoder=reconstruct, overrides=own, runs=trained.runs)
    x = Evaluate().replace(overrides).data.split("test").batch([0, 1])
    measurement = restorer.degradation.measure(x, torch.tensor([0.2, 0.8]), torch.arange(2), seed=0)
    restored = restorer.restore_all(measurement)
    expected = restorer.autoencoder.encode(restorer.degradation.reconstruct(reconstruct, measurement))
    torch.testing.assert_close(restored.z_hat, expected, rtol=1e-4, atol=1e-4)
    assert bool((restored.start_variance > 0).all())
    flops = restorer.unit_flops((1, 16, 16))
    assert flops["severity_encoder"] > 2 * flops["encoder"]  # E of R(y) and of y, and R itself


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"operator": "fog"}, "unknown kind 'fog' for .*degradation; available: .*gaussian_blur"),
        ({"encoder": "best"}, "unknown encoder 'best'; available: auto, matched, universal, quick, none"),
        ({"encoder": "universal"}, "no universal encoder ships for this data and autoencoder"),
        ({"encoder": "matched", "device": "gpu"}, "device 'gpu' cannot be used"),
        ({"encoder": "matched", "preset": "huge"}, "unknown preset 'huge'"),
    ],
)
@pytest.mark.usefixtures("no_training")
def test_what_cannot_restore_is_refused(
    fields: dict[str, Any], message: str, trained: Trained, overrides: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=message):
        load_restorer(**{"overrides": overrides, "runs": trained.runs, **fields})
