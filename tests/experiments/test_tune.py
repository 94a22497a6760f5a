import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from analytic_study import BEST_OFFSET, NOISE_OFFSET, NUM_IMAGES, SEARCH, Analytic, analytic_study, psnr_of, worked
from command_line import CommandLine, Trained
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from warm_python import WarmProcess

from workbench.core.config import UserError
from workbench.core.digests import DIGESTS
from workbench.degradations import GaussianBlur, GaussianNoise
from workbench.experiments import run as running
from workbench.experiments import study as study_module
from workbench.experiments.objective import Objective, means_of, on_validation
from workbench.experiments.results import TUNING
from workbench.experiments.settings import load_settings, with_settings
from workbench.experiments.study import Preset, Study
from workbench.experiments.tune import storage, workers
from workbench.experiments.tune.found import Tuning, read_tuning, save_settings, write_tuning
from workbench.experiments.tune.front import Point, at_edge, choose
from workbench.experiments.tune.storage import JOURNAL
from workbench.experiments.tune.tune import SPACE, Options, beginning, rungs, tune
from workbench.solvers import LDPS, NoGuidance
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.runtime import Runtime

SINGLE = Objective(cost="none")
TIMEOUT = 120


def tuned(root: Path, trials: int = 12, study: Study | None = None, **options: Any) -> dict[str, list[Point]]:
    chosen = Options(trials=trials, **{"sampler": "tpe"} | options)
    found = tune("analytic", study or analytic_study(), "smoke", {}, chosen, Runtime(root))
    return {name: list(task.points) for name, task in found.tasks.items()}


def loaded(root: Path, task: str = "analytic") -> optuna.Study:
    """The trials as Optuna itself reads them."""
    path = root / "studies" / "analytic" / "smoke" / JOURNAL
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.load_study(study_name=f"analytic/smoke/{task}", storage=storage)


def finished(root: Path) -> list[optuna.trial.FrozenTrial]:
    return loaded(root).get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


# --- what is searched


def test_a_task_is_every_cell_but_for_the_axes_that_are_searched() -> None:
    blur, noise = GaussianBlur(), GaussianNoise()
    study = analytic_study(
        axes={"degradation": (blur,), "start.offset_db": (0.0, 1.0)},
        presets={"smoke": Preset(grids=({"degradation": (noise,), "start.offset_db": (0.0, 2.0)},))},
    )
    tasks = study.tasks("smoke")
    assert [task.name for task in tasks] == ["gaussian_blur", "gaussian_noise"]
    assert [task.cell.degradation for task in tasks] == [blur, noise]  # type: ignore[attr-defined]
    assert all(task.search == SEARCH for task in tasks)


def test_a_field_that_is_set_is_not_searched() -> None:
    (task,) = analytic_study().tasks("smoke", {"start.offset_db": 1.0})
    assert set(task.search) == {"sampler.num_steps"}
    assert task.cell.start.offset_db == 1.0  # type: ignore[attr-defined]


def test_each_cell_searches_the_fields_that_it_has() -> None:
    search = {"solver.guidance_scale": FloatDistribution(0.1, 1), "sampler.num_steps": IntDistribution(10, 20)}
    guided, plain = analytic_study(axes={"solver": (LDPS(), NoGuidance())}, search=search).tasks("smoke")
    assert set(guided.search) == set(search)
    assert set(plain.search) == {"sampler.num_steps"}


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({}, "there is nothing to search: the study's `search` is empty"),
        ({"start.offsett_db": FloatDistribution(0, 1)}, "search: unknown field 'start.offsett_db'; snr_match has:"),
        ({"sampler.eta": FloatDistribution(0, 2)}, "the search of sampler.eta includes 2.0, which is invalid:"),
        (
            {"sampler.num_steps": IntDistribution(10, 2000)},
            "includes 2000, which is invalid: sampler.num_steps must be",
        ),
        ({"solver.kind": CategoricalDistribution(("ldps", "dlps"))}, "includes dlps, which is invalid: unknown kind"),
    ],
)
def test_a_search_that_cannot_be_is_refused(tmp_path: Path, search: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        tuned(tmp_path, study=analytic_study(search=search))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not worked(tmp_path)


def test_reversed_bounds_are_said_in_one_line(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "reversed.py").write_text("import optuna\noptuna.distributions.FloatDistribution(9, -3)\n")
    monkeypatch.setattr("studies.__path__", [str(tmp_path)])
    monkeypatch.setattr(study_module, "study_names", lambda: ["reversed"])
    said = cli.refuses("tune", "reversed", "--runs", tmp_path / "runs")
    assert said == "study 'reversed' is invalid: `low <= high` must hold, but got (low=9, high=-3)."


# --- what is found


def test_the_front_is_the_known_one(tmp_path: Path) -> None:
    """Of one offset each number of steps is on the front, so the front is what no other trial beats in both."""
    (points,) = tuned(tmp_path, trials=40, cost_limit=float("inf")).values()
    default, *front = points
    assert default.params == {"start.offset_db": 0.0, "sampler.num_steps": 50}
    values = np.array([trial.values for trial in finished(tmp_path)])
    for trial in finished(tmp_path):
        beaten = ((values[:, 0] >= trial.values[0]) & (values[:, 1] <= trial.values[1])).sum() > 1
        assert beaten != any(point.trial == trial.number for point in front)
        assert trial.values[0] == pytest.approx(psnr_of(*(trial.params[path] for path in SEARCH)))
    for point in front:
        known = psnr_of(*(point.params[path] for path in SEARCH))
        assert point.test["psnr"].mean == pytest.approx(known)
        assert point.gain["psnr"].mean == pytest.approx(known - psnr_of(0.0, 50))
        assert point.test["psnr"].low < known < point.test["psnr"].high
    assert [point.test["nfe"].mean for point in front] == sorted(point.test["nfe"].mean for point in front)
    # at no more steps than the default, something near the best offset is far better
    cheap = max(point.gain["psnr"].mean for point in front if point.test["nfe"].mean <= 50)
    assert cheap > 5


def test_a_search_begins_at_the_default_and_around_it() -> None:
    search = {
        "kind": CategoricalDistribution(["a", "b", "c"]),
        "offset": FloatDistribution(-4.0, 4.0),
        "scale": FloatDistribution(1.0, 256.0, log=True),
        "steps": IntDistribution(10, 90),
        "eta": FloatDistribution(0.0, 1.0),
    }
    default = {"kind": "a", "offset": 0.0, "scale": 16.0, "steps": 50, "eta": 0.0}
    first, *others = beginning(default, search)
    assert first == default
    changes = [{path: value for path, value in trial.items() if value != default[path]} for trial in others]
    expected = [{"kind": "b"}, {"kind": "c"}, {"offset": -1.0}, {"offset": 1.0}, {"scale": 8.0}, {"scale": 32.0}]
    expected += [{"steps": 40}, {"steps": 60}, {"eta": 0.125}]
    assert changes == [pytest.approx(e) if "scale" in e else e for e in expected]
    assert beginning({**default, "eta": 2.0}, search) == []


@pytest.mark.parametrize("limit", [1.0, 1.5])
def test_what_costs_more_than_the_limit_is_no_result(tmp_path: Path, limit: float) -> None:
    (points,) = tuned(tmp_path, trials=30, cost_limit=limit).values()
    assert max(point.test["nfe"].mean for point in points[1:]) <= limit * 50
    assert max(trial.values[1] for trial in finished(tmp_path)) > limit * 50


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp"])
def test_every_sampler_comes_near_the_optimum(tmp_path: Path, sampler: Any) -> None:
    study = analytic_study(search={"start.offset_db": SEARCH["start.offset_db"]})
    (points,) = tuned(tmp_path, 30, study, objective=SINGLE, sampler=sampler).values()
    assert abs(points[-1].params["start.offset_db"] - BEST_OFFSET) < 1


def test_an_optimum_at_an_edge_of_the_range_is_marked(tmp_path: Path) -> None:
    study = analytic_study(search={"sampler.num_steps": IntDistribution(50, 60)})
    (points,) = tuned(tmp_path, 30, study, objective=SINGLE).values()
    assert points[-1].params == {"sampler.num_steps": 60}
    assert points[-1].at_edge == ("sampler.num_steps",)


@pytest.mark.parametrize(
    ("path", "distribution", "value", "expected"),
    [
        ("sampler.eta", FloatDistribution(0.0, 0.5), 0.5, True),
        ("sampler.eta", FloatDistribution(0.0, 0.5), 0.0, False),  # no eta is below 0
        ("sampler.eta", FloatDistribution(0.0, 1.0), 1.0, False),
        ("sampler.eta", FloatDistribution(0.0, 0.5), 0.25, False),
        ("sampler.num_steps", IntDistribution(1, 100, log=True), 1, False),
        ("sampler.num_steps", IntDistribution(10, 100, log=True), 10, True),
        ("solver.guidance_scale", FloatDistribution(0.1, 10.0, log=True), 9.9, True),
        ("solver.guidance_scale", FloatDistribution(0.1, 10.0, log=True), 1.0, False),
        ("solver.guidance_scale", FloatDistribution(1.0, 1.0), 1.0, False),
        ("sampler.num_steps", CategoricalDistribution([10, 20]), 10, False),
    ],
)
def test_the_end_of_a_range_is_no_edge_where_the_field_ends_too(
    path: str, distribution: Any, value: Any, expected: bool
) -> None:
    assert at_edge(analytic_study().cell, path, distribution, value) is expected  # type: ignore[arg-type]


def test_chosen_is_the_best_on_validation_that_costs_no_more_than_the_default() -> None:
    def point(psnr: float, nfe: float) -> Point:
        return Point(None, {}, "", {"psnr": psnr, "nfe": nfe}, {}, {})

    points = [point(20, 50), point(18, 10), point(22, 50), point(22, 40), point(30, 51)]
    assert choose(points, Objective()) == 3
    assert choose(points, SINGLE) == 4
    assert choose(points[:2], Objective()) == 0
    lpips = [Point(None, {}, "", {"lpips": value}, {}, {}) for value in (0.3, 0.1, 0.2)]
    assert choose(lpips, Objective("lpips", "none")) == 1


@pytest.fixture(scope="module")
def two_tasks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tuning]:
    root = tmp_path_factory.mktemp("two")
    study = analytic_study(axes={"degradation": (GaussianBlur(), GaussianNoise())}, columns={})
    return root, tune("analytic", study, "smoke", {}, Options(trials=25, sampler="tpe"), Runtime(root))


def test_a_setting_is_tried_on_the_other_task(two_tasks: tuple[Path, Tuning]) -> None:
    _, tuning = two_tasks
    assert list(tuning.tasks) == ["gaussian_blur", "gaussian_noise"]
    best = dict(zip(tuning.tasks, (BEST_OFFSET, NOISE_OFFSET), strict=True))
    for source, found in tuning.tasks.items():
        for used, there in found.transfer.items():
            own, other = (
                (task.best.params["start.offset_db"], task.best.params["sampler.num_steps"], best[used])
                for task in (tuning.tasks[used], found)
            )
            assert there.quality.mean == pytest.approx(psnr_of(*other) - psnr_of(*own))
            assert there.cost is not None
            assert there.cost.mean == pytest.approx(other[1] / own[1])
        assert found.transfer[source].quality.mean == 0
    assert tuning.tasks["gaussian_blur"].transfer["gaussian_noise"].quality.mean < -5


def test_importance_says_what_trials_differ_by(two_tasks: tuple[Path, Tuning], tmp_path: Path) -> None:
    _, tuning = two_tasks
    shares = tuning.tasks["gaussian_blur"].importance
    assert shares["psnr"]["start.offset_db"] > 0.7  # 36 dB over its range, against 9
    assert shares["nfe"]["sampler.num_steps"] > 0.95
    assert sum(shares["psnr"].values()) == pytest.approx(1)
    few = tune("analytic", analytic_study(), "smoke", {}, Options(trials=3, sampler="tpe"), Runtime(tmp_path))
    assert few.tasks["analytic"].importance == {}


def test_what_was_found_is_kept(two_tasks: tuple[Path, Tuning]) -> None:
    root, tuning = two_tasks
    assert read_tuning(json.loads((root / "studies" / "analytic" / "smoke" / TUNING).read_text())) == tuning
    found = tuning.tasks["gaussian_blur"]
    assert [trial.number for trial in found.trials] == list(range(25))
    assert found.best.validation["nfe"] <= 50
    assert found.best.gain["psnr"].low > 0


def test_a_saved_setting_is_chosen_by_its_file(two_tasks: tuple[Path, Tuning], tmp_path: Path) -> None:
    _, tuning = two_tasks
    how, runtime = {"trials": 25}, Runtime(tmp_path)
    paths = save_settings(tuning, "analytic", "smoke", {}, how, tmp_path / "found", runtime)
    assert [path.name for path in paths] == ["analytic_gaussian_blur.json", "analytic_gaussian_noise.json"]
    (other, _) = save_settings(tuning, "analytic", "smoke", {"seed": 3}, how, tmp_path / "found", runtime)
    assert other not in paths
    assert "--seed=3" in str(load_settings(str(other)).provenance["command"])
    best = tuning.tasks["gaussian_blur"].best
    chosen = with_settings({"preset-settings": str(paths[0]), "start.offset_db": 1.0, "seed": 3})
    kinds = {"start.kind": "snr_match", "sampler.kind": "ddim"}
    assert chosen == {**kinds, **best.params, "start.offset_db": 1.0, "seed": 3}
    provenance = load_settings(str(paths[0])).provenance
    assert provenance["cell"] == best.cell
    assert provenance["options"] == how
    assert {"commit", "versions", "device"} <= provenance.keys()
    assert provenance["test"]["psnr"]["mean"] == best.test["psnr"].mean  # type: ignore[index, call-overload]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot create the folder .*file: "):
        save_settings(tuning, "analytic", "smoke", {}, how, tmp_path / "file", runtime)


def test_optuna_reads_every_trial_with_its_cost_and_cell(tmp_path: Path) -> None:
    tuned(tmp_path, 5)
    trials = loaded(tmp_path).trials
    assert len(trials) == 5
    assert trials[0].params == {"start.offset_db": 0.0, "sampler.num_steps": 50}  # the default
    for trial in trials:
        cell = on_validation(analytic_study().cell, trial.params, NUM_IMAGES)  # type: ignore[arg-type]
        attributes = trial.user_attrs
        assert attributes["cell"] == cell.identity
        assert attributes["mean_nfe"] == trial.params["sampler.num_steps"] == attributes["mean_flops"] / 2
        assert attributes["pid"] == os.getpid()


def test_an_image_that_diverged_counts_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analytic_study.psnr_of", lambda *_: float("nan"))
    assert means_of(analytic_study().cell, Runtime(tmp_path))["psnr"] == 0.0  # type: ignore[arg-type]


# --- going on, together


def test_the_same_command_goes_on_to_so_many_in_all(tmp_path: Path) -> None:
    tuned(tmp_path, 4)
    first = [trial.params for trial in finished(tmp_path)]
    tuned(tmp_path, 9)
    assert len(finished(tmp_path)) == 9
    assert [trial.params for trial in finished(tmp_path)][:4] == first
    count = len(worked(tmp_path))
    tuned(tmp_path, 9)
    assert len(finished(tmp_path)) == 9
    assert len(worked(tmp_path)) == count


def test_a_trial_that_was_evaluated_before_is_a_cache_hit(tmp_path: Path) -> None:
    tuned(tmp_path, 6)
    count = len(worked(tmp_path))
    (tmp_path / "studies" / "analytic" / "smoke" / JOURNAL).unlink()
    tuned(tmp_path, 6)  # the same seeds, so the same trials
    assert len(finished(tmp_path)) == 6
    assert len(worked(tmp_path)) == count


def test_trials_see_validation_images_and_the_front_test_images(tmp_path: Path) -> None:
    (points,) = tuned(tmp_path, 6, val_images=5).values()
    seen = [(split, count) for split, count, _ in worked(tmp_path)]
    assert seen.count(("val", 5)) == 6
    assert seen.count(("test", NUM_IMAGES)) == len({point.cell for point in points})
    assert len(seen) == 6 + len({point.cell for point in points})


def test_one_objective_is_pruned_on_growing_numbers_of_images(tmp_path: Path) -> None:
    assert rungs(64, 1) == (16, 32, 64)
    assert rungs(64, 2) == (64,)
    assert rungs(6, 1) == (6,)
    assert rungs(3, 1) == (3,)
    tuned(tmp_path, 30, objective=SINGLE, val_images=32)
    trials = finished(tmp_path)
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert pruned
    assert len(trials) == 30
    assert all(trial.user_attrs["num_images"] < 32 for trial in pruned)
    assert set(trials[0].intermediate_values) == {8, 16}
    best = max(trial.value for trial in trials if trial.state == TrialState.COMPLETE)  # type: ignore[type-var]
    assert all(trial.intermediate_values[8] < best for trial in pruned)
    seen = [count for split, count, _ in worked(tmp_path) if split == "val"]
    assert seen.count(32) == 30 - len(pruned)  # what was pruned was spared the rest


def begin(root: Path, trials: int, seconds: float, *storage: str) -> WarmProcess:
    script = Path(__file__).parents[1] / "support" / "analytic_study.py"
    project = Path(study_module.__file__).parents[2]
    environment = {**os.environ, "ANALYTIC_SECONDS": str(seconds), "PYTHONPATH": str(project)}
    log = root.with_name(f"{root.name}-{time.monotonic_ns()}.log")
    return WarmProcess([str(script), str(root), str(trials), *storage], log, project, environment)


def wait_for(reached: Any) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def num_beats(url: str) -> int:
    with optuna.storages.RDBStorage(url).engine.connect() as connection:
        return connection.exec_driver_sql("SELECT COUNT(*) FROM trial_heartbeats").scalar() or 0


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) == 0


def test_two_processes_share_one_study_and_make_no_trial_too_many(tmp_path: Path) -> None:
    processes = [begin(tmp_path, 14, seconds=0.2) for _ in range(2)]
    assert [process.wait(TIMEOUT) for process in processes] == [0, 0]
    trials = loaded(tmp_path).trials
    assert len(trials) == 14
    assert all(trial.state == TrialState.COMPLETE for trial in trials)
    assert len({str(trial.params) for trial in trials}) == 14
    assert {trial.user_attrs["pid"] for trial in trials} == {process.pid for process in processes}


def test_the_trial_of_a_killed_worker_fails_and_is_made_again(tmp_path: Path) -> None:
    process = begin(tmp_path, 5, seconds=30)
    wait_for(lambda: worked(tmp_path))
    process.send_signal(signal.SIGKILL)
    process.wait()
    left, *_ = loaded(tmp_path).trials
    assert left.state == TrialState.RUNNING
    tuned(tmp_path, 5)
    trials = loaded(tmp_path).trials
    assert trials[0].state == TrialState.FAIL
    (again,) = [trial for trial in trials if trial.user_attrs.get("again_of") == 0]
    assert again.params == left.params
    assert again.state == TrialState.COMPLETE
    assert len(finished(tmp_path)) == 5
    assert len(trials) == 6


def test_the_trial_of_a_living_worker_is_left_to_it(tmp_path: Path) -> None:
    process = begin(tmp_path, 1, seconds=2)
    wait_for(lambda: worked(tmp_path))
    tuned(tmp_path, 1)  # waits for the other's trial
    assert process.wait(TIMEOUT) == 0
    (trial,) = finished(tmp_path)
    assert trial.state == TrialState.COMPLETE
    assert trial.user_attrs["pid"] == process.pid


def test_a_worker_of_another_host_is_waited_for_unless_it_is_said_to_be_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = begin(tmp_path, 2, seconds=30)
    wait_for(lambda: worked(tmp_path))
    process.send_signal(signal.SIGKILL)
    process.wait()
    monkeypatch.setattr(workers.socket, "gethostname", lambda: "elsewhere")
    study = loaded(tmp_path)
    (waiting,) = workers.elsewhere(study)
    assert re.fullmatch(rf"trial 0 of process {process.pid} on \S+", waiting)
    assert workers.recover(study) == 0
    tuned(tmp_path, 2, take_over=True)
    assert loaded(tmp_path).trials[0].state == TrialState.FAIL
    assert len(finished(tmp_path)) == 2


def test_a_trial_that_was_just_begun_is_left_to_its_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned(tmp_path, 1)
    study = loaded(tmp_path)
    number = study.ask().number
    workers.recover(study)
    assert study.trials[number].state == TrialState.RUNNING
    monkeypatch.setattr(workers, "UNCLAIMED", -1.0)
    workers.recover(study)
    assert study.trials[number].state == TrialState.FAIL


def test_what_was_interrupted_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Analytic, "work", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tuned(tmp_path, 5)
    tuned(tmp_path, 5)
    assert len(finished(tmp_path)) == 5
    assert any(trial.user_attrs.get("again_of") == 0 for trial in finished(tmp_path))


def test_a_database_keeps_trials_and_has_a_heartbeat(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tuned(tmp_path / "runs", 4, storage=url)
    study = optuna.load_study(study_name="analytic/smoke/analytic", storage=url)
    assert len(study.get_trials(states=(TrialState.COMPLETE,))) == 4
    assert not (tmp_path / "runs" / "studies" / "analytic" / "smoke" / JOURNAL).exists()
    assert num_beats(url) == 4


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_trial_of_a_killed_worker_of_a_database_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    """One on this host is seen to be dead; one elsewhere has no heartbeat any more."""
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    process = begin(tmp_path / "runs", 6, 30, url)
    wait_for(lambda: worked(tmp_path / "runs") and num_beats(url))
    process.send_signal(signal.SIGKILL)
    process.wait()
    if elsewhere:
        monkeypatch.setattr(workers.socket, "gethostname", lambda: "elsewhere")
        monkeypatch.setattr(storage, "HEARTBEAT", 1)
        monkeypatch.setattr(storage, "GRACE", 2)
        time.sleep(3)  # the database counts in whole seconds
    tuned(tmp_path / "runs", 6, storage=url)
    lost, *others = optuna.load_study(study_name="analytic/smoke/analytic", storage=url).trials
    assert lost.state == TrialState.FAIL
    assert [trial.state for trial in others] == [TrialState.COMPLETE] * 6
    assert sum(trial.params == lost.params for trial in others) == 1


def test_a_grpc_proxy_serves_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_grpc_proxy", "localhost")  # tests have a proxy that leads nowhere
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    script = (
        "import optuna; from optuna.storages import RDBStorage, run_grpc_proxy_server as serve; "
        f"serve(RDBStorage('sqlite:///{tmp_path}/optuna.db'), host='localhost', port={port})"
    )
    server = subprocess.Popen([sys.executable, "-c", script])
    try:
        wait_for(lambda: listens(port))
        other = begin(tmp_path / "runs", 6, 0.1, f"grpc://localhost:{port}")
        tuned(tmp_path / "runs", 6, storage=f"grpc://localhost:{port}")
        assert other.wait(TIMEOUT) == 0
    finally:
        server.kill()
        server.wait()
    study = optuna.load_study(study_name="analytic/smoke/analytic", storage=f"sqlite:///{tmp_path}/optuna.db")
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 6


# --- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "--trials must be at least 1 and at most 1000000, got 0"),
        ({"val_images": 0}, "--val-images must be at least 1 and at most 1000000000, got 0"),
        ({"cost_limit": 0.5}, r"--cost-limit must be at least 1 \(the default's own cost\), got 0.5"),
        ({"objective": Objective(quality="lpips")}, "cannot tune for LPIPS: "),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tuned(tmp_path, **options)
    assert not worked(tmp_path)


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("sqlite:////nowhere/at/all.db", "storage sqlite:////nowhere/at/all.db cannot be reached: unable to open"),
        ("oracel://me:secret@host/db", r"storage oracel://me:\*\*\*@host/db cannot be reached: "),
        ("oracel://host/db?password=secret", r"storage oracel://host/db\?\*\*\* cannot be reached: "),
        ("grpc://localhost:1", "storage grpc://localhost:1 cannot be reached: "),
        ("grpc://localhost:99999", "storage grpc://localhost:99999 cannot be reached: Port out of range"),
        ("/proc/optuna.journal", "the Optuna journal /proc/optuna.journal cannot be opened: "),
    ],
)
def test_a_storage_that_cannot_be_reached_is_named_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str, message: str
) -> None:
    monkeypatch.setattr("workbench.experiments.tune.storage.ANSWER", 1)  # seconds, of a server that is not there
    with pytest.raises(UserError, match=message) as error:
        tuned(tmp_path, storage=storage)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)
    assert not worked(tmp_path)


@pytest.mark.parametrize(
    ("changed", "differing"),
    [
        ({"study": analytic_study(search={"start.offset_db": FloatDistribution(-3.0, 8.0)})}, "search"),
        ({"objective": Objective(cost="flops")}, "objectives"),
        ({"val_images": 4}, "images, cell"),
        ({"cost_limit": 1.5}, "cost limit"),
    ],
)
def test_a_study_of_another_search_space_is_refused(tmp_path: Path, changed: dict[str, Any], differing: str) -> None:
    tuned(tmp_path, 2)
    count = len(worked(tmp_path))
    with pytest.raises(UserError, match=rf"has another search \({differing} differ\): choose another storage"):
        tuned(tmp_path, 4, **changed)
    assert len(worked(tmp_path)) == count


def test_somebody_elses_study_of_that_name_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    other = optuna.create_study(study_name="analytic/smoke/analytic", storage=url)
    other.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert SPACE not in other.user_attrs
    with pytest.raises(UserError, match="has another search"):
        tuned(tmp_path, 2, storage=url)


def test_cells_that_restore_nothing_are_refused(tmp_path: Path) -> None:
    search = {"prior.learning_rate": FloatDistribution(1e-4, 1e-2, log=True)}
    study = dataclasses.replace(analytic_study(search=search), cell=analytic_study().cell.prior_stage())  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="do not restore images and cannot be tuned"):
        tuned(tmp_path, study=study)


# --- the command


def test_the_command_tunes_a_trained_cell(
    cli: CommandLine, trained: Trained, monkeypatch: pytest.MonkeyPatch, no_training: None
) -> None:
    definition, text = study_module.load_study("robustness")
    search = {"start.offset_db": FloatDistribution(-3.0, 9.0), "sampler.num_steps": IntDistribution(10, 20)}
    one = Study(cell=definition.cell, axes={}, search=search, presets={"smoke": definition.presets["smoke"]})
    monkeypatch.setattr(study_module, "load_study", lambda _: (one, text))
    words = ("tune", "robustness", "--preset", "smoke", "--runs", trained.runs, "--trials", 3, "--device", "cpu")
    said = cli(*words, *trained.flags[:-2], "--num_images=6")
    assert said.code == 0, said.err
    assert "default" in said.out
    assert "found: " in said.out
    assert isinstance(definition.cell, Evaluate)


def test_the_dashboard_is_told_where_to_look(cli: CommandLine, tmp_path: Path) -> None:
    said = cli("tune", "snr_matching", "--dashboard", "--runs", tmp_path / "runs")
    assert said.out.rstrip().endswith(f"optuna-dashboard {tmp_path}/runs/studies/snr_matching/desk/optuna.journal")
    assert cli.refuses("tune", "snr_matching", "--dashboard", "--preset", "none").startswith("unknown preset 'none'")
    for secret in ("postgresql://me:secret@host/db", "postgresql://host/db?password=secret"):
        said = cli("tune", "snr_matching", "--dashboard", "--storage", secret).out
        assert "***" in said
        assert "secret" not in said


def test_a_study_without_a_search_is_refused(cli: CommandLine, tmp_path: Path) -> None:
    said = cli.refuses("tune", "snr_matching", "--runs", tmp_path / "runs")
    assert said == "there is nothing to search: the study's `search` is empty"


def test_a_folder_that_settings_cannot_be_saved_to_is_refused_before_the_search(
    cli: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    words = ("tune", "tuning", "--preset=smoke", f"--runs={tmp_path / 'runs'}")
    assert f"cannot create the folder {tmp_path / 'file'}: File exists" in cli.refuses(
        *words, f"--save={tmp_path / 'file'}"
    )
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_may_not_be_written_is_refused(read_only: Path) -> None:
    with pytest.raises(UserError, match=f"cannot write to {read_only}: Permission denied"):
        running.made(read_only)


def test_a_damaged_tuning_file_is_named(two_tasks: tuple[Path, Tuning], tmp_path: Path) -> None:
    """One flipped digit would be another figure in the report."""
    root, tuning = two_tasks
    study = analytic_study(axes={"degradation": (GaussianBlur(), GaussianNoise())}, columns={})
    runtime = Runtime(Path(shutil.copytree(root, tmp_path / "runs")))
    plan = running._Plan("analytic", "smoke", {}, study, "", [], {}, None, frozenset(), False)
    path = runtime.root / "studies" / "analytic" / "smoke" / TUNING
    assert running._tuned(plan, runtime)["tuning"]["sampler"] == tuning.sampler
    content = path.read_text()
    for other in (content.replace("1", "2", 1), content[:-9], "", "[]", '{"tasks": []}'):
        path.write_text(other)
        with pytest.raises(UserError, match=rf"{path} is damaged: delete it and run tune again"):
            running._tuned(plan, runtime)
    path.with_name(DIGESTS).write_bytes(b"\xff")
    write_tuning(tuning, path.parent)
    assert running._tuned(plan, runtime)["tuning"]["sampler"] == tuning.sampler
