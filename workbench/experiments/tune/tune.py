"""`tune`: search a study's cells on validation images, then evaluate the best settings on test images.

Any number of processes can tune one study. They share the trials through the storage, and a lock in the study's folder
while they start a trial, so that there are never too many trials. (Machines that share a database but no runs folder
may each start one too many.) A trial is an Evaluate stage, so repeated settings are cache hits.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock

from workbench.core.addresses import shown
from workbench.core.config import UserError, plain, require_range
from workbench.core.randomness import seed_of
from workbench.experiments.objective import (
    FEWEST,
    MAX_TRIALS,
    Objective,
    evaluation_of,
    images_of,
    means_of,
    on_test,
    on_validation,
)
from workbench.experiments.run import study_folder
from workbench.experiments.study import Study, TuningTask, setting_at, value_at
from workbench.experiments.tune.found import Found, TrialValues, Tuning, write_tuning
from workbench.experiments.tune.front import choose, evaluate_front, front_table
from workbench.experiments.tune.importance import importance
from workbench.experiments.tune.storage import address_of, dashboard_command, open_storage
from workbench.experiments.tune.transfer import transfer
from workbench.experiments.tune.workers import claim, elsewhere, recover
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.runtime import Runtime

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage

SamplerKind = Literal["tpe", "nsga2", "gp"]

RUNGS = (4, 2, 1)
"""With one objective, a trial is judged on a quarter, a half and all of its images."""
UNPRUNED = 5
"""Number of finished trials before any is pruned."""
POPULATION = 16
"""Population size of NSGA-II: a search of some dozen trials needs several generations."""
STEP = 1 / 8
"""Fraction of its range by which a field is moved from its default in the first trials."""
SPACE = "workbench_space"
"""The attribute of an Optuna study that describes its search."""
POLL = 0.2
"""Seconds between two checks of trials that other processes are running."""


@dataclass(frozen=True)
class Options:
    """Options of a search.

    Attributes:
        trials: trials per task in total, including those of earlier calls and other processes.
        val_images: validation images per trial; None: as given by `images_of`.
        objective: what to optimize.
        sampler: Optuna's sampler.
        cost_limit: settings with a higher mean cost, in multiples of the default's, are not on the front; at least 1,
            or infinite for no limit.
        storage: a URL, or a journal file; None: the journal in the study's folder.
        take_over: treat the running trials of workers on other hosts as lost, and rerun them.
    """

    trials: int = 60
    val_images: int | None = None
    objective: Objective = field(default_factory=Objective)
    sampler: SamplerKind = "gp"
    cost_limit: float = 2.0
    storage: str | None = None
    take_over: bool = False

    @property
    def how(self) -> dict[str, Any]:
        """The options that may change the result."""
        chosen = {"quality": self.objective.quality, "cost": self.objective.cost, "cost limit": str(self.cost_limit)}
        return {"trials": self.trials, "val images": self.val_images, "sampler": self.sampler, **chosen}

    def images(self, cell: Evaluate) -> int:
        """Validation images per trial of this cell."""
        return images_of(cell, self.val_images)


def tune(
    name: str, study: Study, preset: str, overrides: Mapping[str, Any], options: Options, runtime: Runtime
) -> Tuning:
    """Tune every task of a study, and write the result to its folder.

    Raises:
        UserError: before any expensive computation, for options, a search or a storage that cannot be used.
    """
    import optuna
    from optuna.storages import RDBStorage

    require_range("--trials", options.trials, 1, MAX_TRIALS)
    if not options.cost_limit >= 1:
        raise UserError(f"--cost-limit must be at least 1 (the default's own cost), got {options.cost_limit:g}")
    searched = [(task, evaluation_of(name, task)) for task in study.tasks(preset, overrides)]
    for _, cell in searched:
        on_validation(cell, {}, options.images(cell)).check()
        on_test(cell, {}).check()
        options.objective.check(cell)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # errors are reported in our own messages
    folder = study_folder(runtime, name, preset, overrides)
    folder.mkdir(parents=True, exist_ok=True)
    storage = open_storage(options.storage, folder, runtime.progress.say)
    lock = FileLock(folder / ".tuning.lock")
    prefix, has_heartbeat = f"{name}/{folder.name}", isinstance(storage, RDBStorage)
    searches = []
    for task, cell in searched:
        joined = _join(storage, prefix, task, cell, options, lock)
        searches.append(_Search(task, cell, options, runtime, lock, joined, has_heartbeat, options.take_over))
    for search in searches:
        search.run()
    tuning = _found(searches, options, runtime)
    for label, found in tuning.tasks.items():
        runtime.progress.show(front_table(f"{name} ({preset}): {label}", found.points, options.objective))
    runtime.progress.say(f"found: {write_tuning(tuning, folder)}")
    runtime.progress.say(f"trials: {shown(address_of(options.storage, folder))}")
    return tuning


def _found(searches: "Sequence[_Search]", options: Options, runtime: Runtime) -> Tuning:
    """The fronts on test images, with importance and transfer."""
    objective = options.objective
    fronts = {
        s.task.name: evaluate_front(s.task, s.cell, s.study, objective, options.images(s.cell), runtime)
        for s in searches
    }
    chosen = {name: choose(points, objective) for name, points in fronts.items()}
    settings = {name: fronts[name][place].params for name, place in chosen.items()}
    transfers = transfer([(s.task, s.cell) for s in searches], settings, objective, runtime)
    tasks = {
        s.task.name: Found(
            search=_space(s.task, s.cell, options)["search"],
            trials=tuple(TrialValues(t.number, t.params, tuple(t.values) if t.values else None) for t in s.done()),
            points=tuple(fronts[s.task.name]),
            chosen=chosen[s.task.name],
            kinds=_kinds(s.task, s.cell),
            importance=importance(s.study, objective),
            transfer=transfers[s.task.name],
        )
        for s in searches
    }
    num_images = max(options.images(s.cell) for s in searches)
    return Tuning(goal=objective, num_val_images=num_images, sampler=options.sampler, tasks=tasks)


def _kinds(task: TuningTask, cell: Evaluate) -> dict[str, Any]:
    """The kinds of the members whose fields are searched."""
    members = {path: value_at(cell, path) for path in dict.fromkeys(p.rpartition(".")[0] for p in task.search) if path}
    return {f"{path}.kind": member.kind for path, member in members.items() if hasattr(member, "kind")}


def how_to_look(name: str, preset: str, overrides: Mapping[str, Any], storage: str | None, root: Path) -> str:
    """How to open optuna-dashboard for a study's trials."""
    return dashboard_command(storage, study_folder(Runtime(root), name, preset, overrides))


def _join(
    storage: "BaseStorage", prefix: str, task: TuningTask, cell: Evaluate, options: Options, lock: FileLock
) -> "optuna.Study":
    """The task's Optuna study, created if it does not exist.

    Raises:
        UserError: if the storage has a study of that name with another search space.
    """
    import optuna

    study_name = f"{prefix}/{task.name}"
    folder = Path(lock.lock_file).parent
    own = _space(task, cell, options)
    with lock:
        study = optuna.create_study(
            storage=storage, study_name=study_name, directions=options.objective.directions, load_if_exists=True
        )
        if SPACE not in study.user_attrs and not study.get_trials(deepcopy=False):
            study.set_user_attr(SPACE, own)
            for params in beginning({path: setting_at(cell, path) for path in task.search}, task.search):
                study.enqueue_trial(params)
    there = study.user_attrs.get(SPACE, {})
    if differing := [key for key in own if there.get(key) != own[key]]:
        raise UserError(
            f"the Optuna study {study_name!r} in {shown(address_of(options.storage, folder))} has another search "
            f"({', '.join(differing)} differ): choose another storage with --storage, or delete that study"
        )
    return study


def _space(task: TuningTask, cell: Evaluate, options: Options) -> dict[str, Any]:
    """The definition of a search, as JSON: the trials of one study are comparable only if all of it is the same."""
    from optuna.distributions import distribution_to_json

    return {
        "objectives": list(options.objective.columns),
        "search": {path: json.loads(distribution_to_json(d)) for path, d in task.search.items()},
        "images": options.images(cell),
        "cost limit": str(options.cost_limit),
        "cell": plain(on_validation(cell, {}, options.images(cell)).identity),
    }


def beginning(default: Mapping[str, Any], search: "Mapping[str, BaseDistribution]") -> list[dict[str, Any]]:
    """The first trials: the default, then one field at a time moved from it; none if the default is not searched.

    The default is the setting to beat and was chosen with care, so its neighbours are more informative than the random
    draws of a sampler without data.
    """
    if not all(_holds(distribution, default[path]) for path, distribution in search.items()):
        return []
    moved = ({path: value} for path, d in search.items() for value in _around(d, default[path]))
    return [dict(default), *({**default, **change} for change in moved)]


def _around(distribution: "BaseDistribution", value: Any) -> list[Any]:
    """The other choices, or values below and above a number by part of the range, on the range's own scale."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return [choice for choice in distribution.choices if choice != value]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    scale, back = (math.log, math.exp) if distribution.log else (float, float)
    move = STEP * (scale(distribution.high) - scale(distribution.low))
    moved = [back(scale(value) + sign * move) for sign in (-1, 1)]
    if distribution.step is not None:
        moved = [
            distribution.low + round((x - distribution.low) / distribution.step) * distribution.step for x in moved
        ]
    return [x for x in moved if _holds(distribution, x) and x != value]


def _holds(distribution: Any, value: Any) -> bool:
    """Whether a value is one of those searched."""
    choices = getattr(distribution, "choices", None)
    return value in choices if choices else distribution.low <= value <= distribution.high


def make_sampler(kind: SamplerKind, seed: int) -> "BaseSampler":
    """Optuna's sampler of that name."""
    import warnings

    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import GPSampler, NSGAIISampler, TPESampler

    match kind:
        case "tpe":
            return TPESampler(seed=seed)
        case "nsga2":
            return NSGAIISampler(seed=seed, population_size=POPULATION)
        case "gp":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                # the same measurements and random draws in every trial: there is no noise to model
                return GPSampler(seed=seed, deterministic_objective=True)


def rungs(num_images: int, num_objectives: int) -> tuple[int, ...]:
    """Numbers of images on which a trial is judged, ending with all; Optuna only prunes with one objective."""
    if num_objectives > 1:
        return (num_images,)
    counts = (num_images // part for part in RUNGS)
    return tuple(dict.fromkeys(count for count in counts if count >= FEWEST or count == num_images))


def _suggest(trial: "optuna.Trial", path: str, distribution: Any) -> Any:
    """The trial's value of a field."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(path, distribution.choices)
    ends = {"low": distribution.low, "high": distribution.high, "log": distribution.log, "step": distribution.step}
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(path, **ends)
    return trial.suggest_float(path, **ends)


@dataclass
class _Search:
    """One task's trials."""

    task: TuningTask
    cell: Evaluate
    options: Options
    runtime: Runtime
    lock: FileLock
    study: "optuna.Study"
    has_heartbeat: bool
    take_over: bool

    def run(self) -> None:
        """Run until all requested trials are done, by this or other processes."""
        total, told = self.options.trials, False
        with self.runtime.progress.task(f"tune {self.task.name}") as update:
            while True:
                self.lock.acquire()
                try:
                    self._revive()
                    self.take_over = False
                    done, begun = len(self.done()), len(self._running())
                    update(done, total, self._note())
                    if done >= total:
                        return
                    if done + begun < total:
                        self._run_one()
                        continue
                finally:
                    self.lock.release(force=True)
                if not told and (others := elsewhere(self.study)):
                    told = True
                    self.runtime.progress.say(f"waiting for {'; '.join(others)} (if dead: --take-over)")
                time.sleep(POLL)  # the last trials belong to other workers; if those die, we take over

    def done(self) -> "Sequence[optuna.trial.FrozenTrial]":
        """Trials that were finished or pruned."""
        from optuna.trial import TrialState

        return self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))

    def _running(self) -> "Sequence[optuna.trial.FrozenTrial]":
        from optuna.trial import TrialState

        return self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _revive(self) -> None:
        """Handle the trials of dead workers, by the database's heartbeat and by our own check."""
        import warnings

        from optuna.exceptions import ExperimentalWarning
        from optuna.storages import fail_stale_trials

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            if self.has_heartbeat:
                fail_stale_trials(self.study)
            again = recover(self.study, everywhere=self.take_over)
        if again:
            self.runtime.progress.say(f"{self.task.name}: {again} trials of dead workers are enqueued again")

    def _run_one(self) -> None:
        """Start a trial under the lock; release the lock once the trial is claimed."""
        from optuna.pruners import MedianPruner

        # a sampler has little state besides its random state: keyed by the trial, it repeats its draws in one process,
        # and never draws the same in two
        number = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = make_sampler(self.options.sampler, seed_of(self.cell.seed, "tune", number) % 2**32)
        self.study.pruner = MedianPruner(n_startup_trials=UNPRUNED)
        self.study.optimize(self._objective(self.lock.release), n_trials=1)

    def _cost_limit(self) -> float:
        """The highest mean cost of a setting on the front; evaluates the default, which is the first trial."""
        objective, limit = self.options.objective, self.options.cost_limit
        if objective.cost == "none" or math.isinf(limit):
            return math.inf
        default = on_validation(self.cell, {}, self.options.images(self.cell))
        return limit * means_of(default, self.runtime)[objective.cost]

    def _objective(self, begun: Callable[[], None]) -> "Callable[[optuna.Trial], tuple[float, ...]]":
        import optuna

        def evaluate(trial: "optuna.Trial") -> tuple[float, ...]:
            claim(trial)
            begun()
            params = {path: _suggest(trial, path, d) for path, d in self.task.search.items()}
            objective, num_images = self.options.objective, self.options.images(self.cell)
            for count in rungs(num_images, len(objective.columns)):
                stage = on_validation(self.cell, params, count)
                means = means_of(stage, self.runtime, objective.columns)
                found = {"cell": stage.identity, "num_images": count, **{f"mean_{k}": v for k, v in means.items()}}
                for attribute, value in found.items():
                    trial.set_user_attr(attribute, value)
                if len(objective.columns) == 1 and count < num_images:
                    trial.report(means[objective.quality], count)
                    if trial.should_prune():
                        raise optuna.TrialPruned
            if math.isfinite(limit := self._cost_limit()):
                trial.set_constraint(objective.cost, means[objective.cost] - limit)
            return tuple(means[name] for name in objective.columns)

        return evaluate

    def _note(self) -> str:
        """The best quality so far."""
        values = [trial.values[0] for trial in self.study.best_trials] if self.done() else []
        best = max if self.options.objective.quality == "psnr" else min
        return f"best {self.options.objective.quality} {best(values):.4g}" if values else ""
