"""Sweep files: what they hold, what W&B makes of them, and what is refused. tests/tracking has the agents."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sweeps as wandb_sweeps
import yaml
from analytic_study import analytic_study
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from sweeps.config.schema import validator

from workbench.core.config import parse_overrides
from workbench.degradations import GaussianBlur, GaussianNoise
from workbench.experiments import sweep as sweeps_module
from workbench.experiments.catalogue import study_names
from workbench.experiments.objective import Objective, on_validation
from workbench.experiments.study import Preset, base_cell, load_study
from workbench.experiments.sweep import EARLY_TERMINATE, Options, as_yaml, rungs, sweep_configs
from workbench.solvers import LDPS, PSLD
from workbench.stages.base import Stage

if TYPE_CHECKING:
    from command_line import CommandLine

SHIPPED = Path(sweeps_module.__file__).parents[2] / "studies" / "sweeps"
METHODS = ("bayes", "random", "grid")


@pytest.fixture
def analytic(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, dict[str, Any]]]:
    """The sweeps of the analytic study, with fields of its own."""

    def configs(options: Options = Options(), overrides: Any = None, **fields: Any) -> dict[str, dict[str, Any]]:  # noqa: B008
        study = analytic_study(**fields)
        monkeypatch.setattr("workbench.experiments.study.load_study", lambda _: (study, ""))
        return sweep_configs("analytic", study, "smoke", overrides or {}, options)

    return configs


def parameters(search: dict[str, BaseDistribution], **options: Any) -> dict[str, Any]:
    return {path: sweeps_module._parameter(d, Options(**options)) for path, d in search.items()}


def flags_of(config: dict[str, Any]) -> dict[str, Any]:
    """The overrides in a sweep's command."""
    words = config["command"]
    assert words[:5] == ["python", "-m", "workbench", "run", words[4]]
    assert words[5].startswith("--preset=")
    assert words[-1] == "${args}"
    return parse_overrides([word for word in words[6:-1] if word != "--rungs"])


# --- the files that ship


def searched() -> list[str]:
    return [name for name in study_names() if load_study(name)[0].search]


def require_shipped(folder: Path, preset: str) -> None:
    """The files in a folder are those that are made now."""
    made = {
        file: as_yaml(name, config)
        for name in searched()
        for file, config in sweep_configs(name, load_study(name)[0], preset, {}, Options()).items()
    }
    assert {path.name: path.read_text() for path in folder.glob("*.yaml")} == made


def test_the_files_that_ship_are_those_that_are_made() -> None:
    require_shipped(SHIPPED, "desk")
    assert {path.name for path in SHIPPED.iterdir() if path.is_dir()} == {"photos"}


@pytest.mark.shared
@pytest.mark.usefixtures("photographs")
def test_the_files_on_photographs_that_ship_are_those_that_are_made() -> None:
    require_shipped(SHIPPED / "photos", "photos")


@pytest.mark.parametrize("name", searched())
@pytest.mark.parametrize("method", METHODS)
def test_every_file_is_valid_by_wandbs_schema(name: str, method: Any) -> None:
    study = load_study(name)[0]
    for preset in study.presets.keys() - {"photos"}:
        for file, config in sweep_configs(name, study, preset, {}, Options(method=method)).items():
            read = yaml.safe_load(as_yaml(name, config))
            assert read == config, file
            assert read.pop("run_cap", None) == (None if method == "grid" else 60)  # newer than the schema
            assert list(validator.iter_errors(read)) == []
            assert wandb_sweeps.SweepConfig(read)["metric"]["name"] == "val/psnr"
            assert "early_terminate" in read or preset == "smoke" or method == "bayes"


# --- what W&B draws is what Optuna would

numbers = st.floats(-100, 100).map(lambda value: round(value, 3))


@st.composite
def distributions(draw: st.DrawFn) -> BaseDistribution:
    """Any of Optuna's: floats and integers, on a log scale, in steps, or choices."""
    kind = draw(st.sampled_from(["float", "log", "step", "int", "int log", "int step", "choices"]))
    low, width = draw(numbers), draw(st.floats(0, 50).map(lambda value: round(value, 3)))
    whole, span = draw(st.integers(-50, 50)), draw(st.integers(0, 50))
    match kind:
        case "float":
            return FloatDistribution(low, low + width)
        case "log":
            return FloatDistribution(abs(low) + 0.001, abs(low) + 0.001 + width, log=True)
        case "step":
            step = draw(st.sampled_from([0.125, 0.25, 0.5]))
            return FloatDistribution(whole / 8, whole / 8 + span * step, step=step)
        case "int":
            return IntDistribution(whole, whole + span)
        case "int log":
            return IntDistribution(abs(whole) + 1, abs(whole) + 1 + span, log=True)
        case "int step":
            step = draw(st.integers(2, 5))
            return IntDistribution(whole, whole + span * step, step=step)
    return CategoricalDistribution(draw(st.lists(st.sampled_from([None, True, 2, 0.5, "a"]), min_size=1, unique=True)))


def holds(distribution: Any, value: Any) -> bool:
    """Whether Optuna could have suggested a value."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    inside = distribution.low - 1e-9 <= value <= distribution.high + 1e-9
    steps = (value - distribution.low) / (distribution.step or 1)
    return inside and (distribution.step is None or math.isclose(steps, round(steps), abs_tol=1e-6))


@settings(max_examples=60, deadline=None)
@given(distribution=distributions(), method=st.sampled_from(METHODS), points=st.integers(2, 6))
def test_wandb_draws_what_optuna_would(distribution: BaseDistribution, method: Any, points: int) -> None:
    config = {"method": method, "metric": {"name": "val/psnr", "goal": "maximize"}}
    search = {"a.b": distribution, "other": FloatDistribution(0, 1)}
    config["parameters"] = parameters(search, method=method, points=points)
    assert list(validator.iter_errors(config)) == []
    drawn = [run.config["a.b"]["value"] for run in wandb_sweeps.next_runs(config, [], n=8, validate=True) if run]
    assert drawn
    assert all(holds(distribution, value) for value in drawn)


@settings(max_examples=200, deadline=None)
@given(distribution=distributions())
def test_wandbs_optuna_scheduler_has_the_studys_own_distributions(distribution: Any) -> None:
    from wandb.sdk.sweeps.scheduler.optuna import search_space_from_sweep_config

    written = yaml.safe_load(yaml.safe_dump(parameters({"a.b": distribution}, method="optuna")))
    (found,) = search_space_from_sweep_config(written).values()
    if distribution.single() and not isinstance(distribution, CategoricalDistribution):
        distribution = CategoricalDistribution((distribution.low,))
    assert found == distribution


def test_a_grid_is_even_on_the_ranges_own_scale() -> None:
    search = {
        "linear": FloatDistribution(0.0, 3.0),
        "log": FloatDistribution(0.1, 100.0, log=True),
        "int": IntDistribution(1, 1000, log=True),
        "few": IntDistribution(1, 3),
        "steps": FloatDistribution(0.25, 1.75, step=0.5),
        "choices": CategoricalDistribution(("ddim", "ddpm")),
        "one": FloatDistribution(2.0, 2.0),
    }
    found = parameters(search, method="grid", points=4)
    assert found["linear"] == {"values": [0.0, 1.0, 2.0, 3.0]}
    assert found["log"]["values"] == pytest.approx([0.1, 1.0, 10.0, 100.0])
    assert found["int"] == {"values": [1, 10, 100, 1000]}
    assert found["few"] == {"values": [1, 2, 3]}
    assert found["steps"] == {"values": [0.25, 0.75, 1.25, 1.75]}
    assert (found["choices"], found["one"]) == ({"values": ["ddim", "ddpm"]}, {"value": 2.0})


# --- a run of an agent is a trial


def test_the_command_is_the_tasks_cell_on_validation_images(analytic: Callable[..., dict[str, Any]]) -> None:
    found = analytic(
        Options(val_images=5),
        {"seed": 3},
        axes={"degradation": (GaussianBlur(), GaussianNoise()), "solver": (LDPS(), PSLD(weight=0.3))},
        presets={"smoke": Preset(overrides={"sampler.num_steps": 40})},
    )
    assert list(found) == [
        f"analytic-{degradation}-{solver}.yaml"
        for degradation in ("gaussian_blur", "gaussian_noise")
        for solver in ("ldps", "psld")
    ]
    config = found["analytic-gaussian_noise-psld.yaml"]
    flags = flags_of(config)
    assert flags == {
        "degradation.kind": "gaussian_noise",
        "solver.kind": "psld",
        "solver.weight": 0.3,
        "split": "val",
        "num_images": 5,
        "seed": 3,
    }
    cell = base_cell("analytic", "smoke", flags)
    fields = {"degradation": GaussianNoise(), "solver": PSLD(weight=0.3), "sampler.num_steps": 40, "seed": 3}
    task = analytic_study().cell.replace(fields)
    params = {"start.offset_db": 1.5, "sampler.num_steps": 20}
    assert cell.replace(params).identity == on_validation(task, params, 5).identity  # type: ignore[arg-type]


def test_a_field_that_is_set_is_not_swept(analytic: Callable[..., dict[str, Any]]) -> None:
    (config,) = analytic(overrides={"start.offset_db": 1.0}).values()
    assert set(config["parameters"]) == {"sampler.num_steps"}
    assert flags_of(config)["start.offset_db"] == 1.0


# --- early termination


def num_images(stages: list[Stage]) -> list[int]:
    return [stage.num_images for stage in stages]  # type: ignore[attr-defined]


def test_a_run_of_many_images_may_be_stopped_on_a_quarter_of_them(analytic: Callable[..., dict[str, Any]]) -> None:
    (config,) = analytic(Options(method="random", val_images=64)).values()
    assert config["early_terminate"] == EARLY_TERMINATE
    assert "--rungs" in config["command"]
    cell = analytic_study().cell
    assert num_images(rungs(cell.replace(num_images=64))) == [16, 16, 64]
    assert num_images(rungs(cell.replace(num_images=15))) == [15]

    def run(name: str, *history: float) -> wandb_sweeps.SweepRun:
        rows = [{"val/psnr": value} for value in history]
        return wandb_sweeps.SweepRun(name=name, state=wandb_sweeps.RunState.running, sampledHistory=rows)

    runs = [run("best", 22, 22), run("good", 21, 21, 18), run("poor", 19, 19), run("young", 1)]
    assert [stopped.name for stopped in wandb_sweeps.stop_runs(config, runs)] == ["poor"]


@pytest.mark.parametrize(
    "options",
    [Options("random", val_images=15), Options("bayes", val_images=64), Options("optuna", val_images=64)],
)
def test_no_run_is_stopped_where_a_part_tells_nothing_or_a_model_would_learn_from_it(
    analytic: Callable[..., dict[str, Any]], options: Options
) -> None:
    (config,) = analytic(options).values()
    assert "early_terminate" not in config
    assert "--rungs" not in config["command"]


def test_rungs_are_cells_on_parts_of_the_images(
    analytic: Callable[..., Any], cli: "CommandLine", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analytic()
    said = cli("run", "analytic", "--preset", "smoke", "--runs", tmp_path / "runs", "--num_images=40", "--rungs")
    assert said.code == 0, said.err
    written = (tmp_path / "runs" / "worked.jsonl").read_text()
    assert re.findall(r'"test", (\d+)', written) == ["10", "40"]


# --- W&B's Optuna scheduler


@pytest.mark.parametrize("cost", ["none", "nfe"])
def test_wandbs_optuna_scheduler_takes_the_file(analytic: Callable[..., dict[str, Any]], cost: Any) -> None:
    from wandb.sdk.sweeps.run_state import RunState
    from wandb.sdk.sweeps.scheduler.optimizer import RunWithMetrics, make_optimizer
    from wandb.sdk.sweeps.sweep_info import SweepInfo

    (config,) = analytic(Options(method="optuna", objective=Objective(cost=cost))).values()
    config = yaml.safe_load(as_yaml("analytic", config))
    assert (config["method"], config["scheduler"]) == ("custom", {"engine": "optuna"})
    optimizer: Any = make_optimizer(SweepInfo("id", "name", "entity", "project", config, "controller"))
    assert optimizer.distributions == dict(analytic_study().search)
    optimizer.validate_sweep_objective()
    (suggestion,) = optimizer.ask_n_runs(1)
    summary = {"val/psnr": 21.5, "val/nfe": 30.0}
    optimizer.tell_run(suggestion.run_id, RunWithMetrics(suggestion.config, RunState.FINISHED, "run", summary, []))
    (trial,) = optimizer.study.trials
    assert trial.values == ([21.5] if cost == "none" else [21.5, 30.0])
    assert [d.name for d in optimizer.study.directions] == ["MAXIMIZE", "MINIMIZE"][: len(trial.values)]


# --- what is refused


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("snr_matching",), "there is nothing to search: the study's `search` is empty"),
        (("tuning", "--cost", "nfe"), "--method bayes supports one metric: remove --cost, or add --method optuna"),
        (("tuning", "--trials", "0"), "--trials must be at least 1 and at most 1000000, got 0"),
        (("tuning", "--method", "grid", "--points", "1"), "--points must be at least 2 and at most 1000, got 1"),
        (("tuning", "--val-images", "0"), "--val-images must be at least 1 and at most 1000000000, got 0"),
        (("tuning", "--sampler.etaa=1"), "unknown field 'sampler.etaa'; ddim has: kind, num_steps, eta"),
        (("tuning", "--create"), "WANDB_MODE is disabled, but registering a sweep needs W&B's server: unset it, or"),
    ],
)
def test_what_cannot_be_is_one_line_and_no_file(
    cli: "CommandLine", tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    said = cli.refuses("sweep", *words, "--output", tmp_path / "sweeps", "--runs", tmp_path / "runs")
    assert said.startswith(message)
    assert not list((tmp_path / "sweeps").glob("*"))


def test_an_output_that_is_a_file_is_one_line(cli: "CommandLine", tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = cli.refuses("sweep", "tuning", "--output", tmp_path / "file")
    assert said == f"cannot create the folder {tmp_path / 'file'}: File exists"


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"start.offsett_db": FloatDistribution(0, 1)}, "search: unknown field 'start.offsett_db'; snr_match has:"),
        ({"sampler.eta": FloatDistribution(0, 2)}, "the search of sampler.eta includes 2.0, which is invalid:"),
    ],
)
def test_a_search_that_cannot_be_is_refused(
    analytic: Callable[..., Any], search: dict[str, BaseDistribution], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        analytic(search=search)


def test_reversed_bounds_are_said_in_one_line(
    cli: "CommandLine", monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "upside_down.py").write_text("import optuna\noptuna.distributions.IntDistribution(9, 3)\n")
    monkeypatch.setattr("studies.__path__", [str(tmp_path)])
    monkeypatch.setattr("workbench.experiments.study.study_names", lambda: ["upside_down"])
    said = cli.refuses("sweep", "upside_down", "--runs", tmp_path / "runs")
    assert said.startswith("study 'upside_down' is invalid: `low <= high` must hold")


def test_files_go_to_the_studys_folder(cli: "CommandLine", tmp_path: Path) -> None:
    said = cli("sweep", "tuning", "--preset", "smoke", "--runs", tmp_path)
    assert (said.code, said.err) == (0, "")
    path = Path(said.out.splitlines()[-1])
    assert path == tmp_path / "studies" / "tuning" / "smoke" / "sweeps" / "tuning-gaussian_blur.yaml"
    assert yaml.safe_load(path.read_text())["method"] == "bayes"
