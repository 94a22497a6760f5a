"""Run the missing stages of a study as SLURM jobs, through submitit: one array per kind of stage and level.

runs/cluster/<stage>-<random>/<job>_0_log.out    output of a job; submitit's own files are next to it

Submitit unpickles the results of jobs, so each array has a new folder that nobody else can write to: a runs folder from
someone else cannot contain prepared files.

The runs folder and the data must be on a file system that the nodes share. A job that was killed, preempted or timed
out is resumed by the next one.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from workbench.core import families
from workbench.core.config import Config, UserError
from workbench.core.files import write_whole
from workbench.core.progress import Bars, Update
from workbench.core.ranks import Node
from workbench.stages.base import Stage, ensure_all
from workbench.stages.execute.plan import Plan, elsewhere, without_interrupt
from workbench.stages.runtime import Runtime, choose_devices
from workbench.stages.train.together import assist, free_port
from workbench.tracking.record import Record

if TYPE_CHECKING:
    from submitit import Job

    Jobs = dict[Path, Job[list[Record]]]
    """The stage's folder -> its job."""

Kind = Literal["slurm", "local"]

POLL, ASK = 1.0, 5.0
"""Seconds between two checks for results of jobs, and between two queries of their states."""
MAX_MINUTES = 366 * 24 * 60
"""A year."""
WARNING = 30
"""Seconds before its end at which SLURM notifies a job."""
MEET, GRACE = 600.0, 30.0
"""Seconds that the other nodes of a job wait for the first one to begin, and to end after it."""
PORT, OVER = "port", "over"
ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT", "GONE"}
ENDED_HERE = {"FINISHED", "INTERRUPTED"}
"""Final states of jobs: SLURM's, with GONE for a job that it no longer knows, and submitit's."""


class Resources(Config):
    """The resources of a job."""

    gpus: int = Field(0, ge=0, le=1024, description="GPUs on each node; a stage uses all of them")
    nodes: int = Field(1, ge=1, le=1024, description="nodes, which share the training of a network")
    cpus: int = Field(2, ge=1, le=8192, description="processor cores, and thus threads")
    minutes: int = Field(60, ge=1, le=MAX_MINUTES, description="time limit in minutes")
    memory_gb: float | None = Field(None, ge=0.1, le=100_000, description="memory in GB; null: the cluster's default")
    partition: str | None = Field(None, description="partition; null: the cluster's default")


class _Given(Config):
    cluster: Resources = Resources()


@dataclass(frozen=True)
class Cluster:
    """Where jobs run, and with which resources.

    Attributes:
        kind: slurm, or local: the same jobs as processes on this machine.
        device: name of the device on the job's node.
        given: fields of Resources, as `cluster.minutes` or, for one kind of stage, `cluster.train_prior.minutes`.

    Raises:
        UserError: if there is no SLURM, or for an unknown field or an invalid value.
    """

    kind: Kind
    device: str = "auto"
    given: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind == "slurm" and shutil.which("sbatch") is None:
            raise UserError("there is no SLURM here (no sbatch on the PATH): run locally with --jobs N")
        for name in ("", *self._names()):
            self.resources(name)

    def resources(self, name: str) -> Resources:
        """The resources for stages of that name."""
        everyone = {path: value for path, value in self.given.items() if path.count(".") == 1}
        prefix = f"cluster.{name}."
        own = {f"cluster.{p.removeprefix(prefix)}": v for p, v in self.given.items() if p.startswith(prefix)}
        return _Given().replace({**everyone, **own}).cluster

    def refuse_unknown(self, stages: Iterable[Stage]) -> None:
        """Raise UserError for resources of a stage that is neither among these nor upstream of them."""
        if (named := self._names()) and (unknown := named - (there := _names_of(stages))):
            raise UserError(f"--cluster.{min(unknown)}: unknown stage; available: {', '.join(sorted(there))}")

    def _names(self) -> set[str]:
        return {path.split(".")[1] for path in self.given if path.count(".") > 1}


def _names_of(stages: Iterable[Stage]) -> set[str]:
    return {name for stage in stages for name in (stage.name, *_names_of(stage.upstream()))}


def ensure_on_cluster(
    stages: Sequence[Stage], runtime: Runtime, update: Update | None = None, *, cluster: Cluster
) -> None:
    """Compute all missing artifacts with jobs, in order of their dependencies.

    If a job fails, the others continue, except those that depend on it. If this function ends early, it cancels its
    jobs.

    Args:
        update: called with the number of `stages` that exist, and the states of the jobs.

    Raises:
            UserError: if SLURM rejects the jobs, or jobs fail; the message has the first failure's reason and log.
    """
    cluster.refuse_unknown(stages)
    tell = update or (lambda done, total, note="": None)
    plan, failures = Plan(stages, runtime), list[str]()
    ready: list[Path] = []
    while ready := [*ready, *plan.ready()]:
        at_once = len(ready) if cluster.kind == "slurm" else os.cpu_count() or 1
        level, ready = ready[:at_once], ready[at_once:]
        jobs: Jobs = {}
        try:
            for name in dict.fromkeys(plan.missing[folder].name for folder in level):
                own = {folder: stage for folder in level if (stage := plan.missing[folder]).name == name}
                _submit(name, own, jobs, runtime, cluster)
            queue = _Queue(cluster.kind, jobs)
            while queue.left:
                tell(plan.num_there(), len(stages), queue.note())
                for folder, job in queue.ended():
                    if (problem := _collect(job, folder, queue, runtime)) is None:
                        plan.made(folder)
                    else:
                        failures.append(f"{plan.missing[folder].label}: {problem}")
                        runtime.progress.say(f"failed, the others continue: {failures[-1]}")
        except BaseException:
            _cancel(jobs, cluster.kind)
            raise
    if failures:
        more = f" ({len(failures) - 1} more failed, see above)" if failures[1:] else ""
        raise UserError(f"{failures[0]}{more}; run the same command again to resume")
    ensure_all(stages, runtime, update)


def _submit(name: str, stages: Mapping[Path, Stage], jobs: "Jobs", runtime: Runtime, cluster: Cluster) -> None:
    """Submit one array for stages of one name, and add it to the jobs."""
    from submitit import AutoExecutor
    from submitit.core.utils import FailedJobError

    if cluster.kind == "local" and cluster.resources(name).nodes > 1:
        raise UserError("--cluster.nodes is for SLURM: this machine is one node")
    wanted, away, all_jobs = cluster.resources(name), elsewhere(runtime), runtime.root / "cluster"
    all_jobs.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=all_jobs))
    python = _python()
    executor = AutoExecutor(folder=folder, cluster=cluster.kind, slurm_python=python, local_python=python)
    executor.update_parameters(
        name=name,
        timeout_min=wanted.minutes,
        cpus_per_task=wanted.cpus,
        gpus_per_node=wanted.gpus or None,
        nodes=wanted.nodes,
        mem_gb=wanted.memory_gb,
        stderr_to_stdout=True,
        slurm_partition=wanted.partition,
        slurm_signal_delay_s=WARNING,
        slurm_srun_args=[f"--cpus-per-task={wanted.cpus}"],  # since SLURM 22.05, srun does not inherit it from the job
    )
    try:
        with without_interrupt():  # so that Ctrl-C finds every job
            with executor.batch():
                submitted = {
                    target: executor.submit(_make, stage, away, cluster.device, wanted)
                    for target, stage in stages.items()
                }
            jobs |= submitted
    except FailedJobError as error:
        raise UserError(f"SLURM rejects {name} jobs: {' '.join(str(error).split())}") from None
    ids = [job.job_id for job in submitted.values()]
    span = " to ".join(dict.fromkeys((ids[0], ids[-1])))
    runtime.progress.say(f"{name}: {len(ids)} submitted ({span}), logs in {folder}")


def _python() -> str:
    """The job's Python: it has the same module path, and its command line allows the same imports."""
    told = {families.ALLOWED: ",".join(families.allowed()), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return shlex.join(["env", *(f"{name}={value}" for name, value in told.items()), sys.executable])


def _make(stage: Stage, runtime: Runtime, device: str, given: Resources) -> list[Record]:
    """The work of a job on one of its nodes; returns the records for W&B."""
    import torch

    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # submitit ignores it, and SLURM then waits before it kills
    torch.set_num_threads(given.cpus)
    devices = choose_devices(device, max(1, given.gpus))
    node = _node() if given.nodes > 1 else None
    with Bars() as progress:
        runtime = replace(runtime, device=devices[0], devices=devices, node=node, progress=progress)
        if node is None:
            stage.ensure(runtime)
        elif node.number:
            threading.Thread(target=_end_with_first_node, daemon=True).start()
            assist(stage, runtime)
        else:
            try:
                stage.ensure(runtime)
            finally:
                _meeting(OVER).touch()
    return runtime.tracker.take()


def _node() -> Node:
    """This node of a job; the first one writes where they meet beside the job's log.

    Raises:
        UserError: if it does not.
    """
    from submitit import JobEnvironment

    job = JobEnvironment()
    meeting = _meeting(PORT)
    if job.node == 0:
        _meeting(OVER).unlink(missing_ok=True)
        write_whole(meeting, str(free_port()))
    deadline = time.monotonic() + MEET
    while not meeting.is_file():
        if time.monotonic() > deadline:
            raise UserError("the first node of the job did not begin")
        time.sleep(POLL)
    address = os.environ["SLURM_LAUNCH_NODE_IPADDR"]  # where srun was called: the first node
    return Node(job.node, job.num_nodes, address, int(meeting.read_text()))


def _meeting(name: str) -> Path:
    """A file by which the nodes of this job meet."""
    from submitit import JobEnvironment

    job = JobEnvironment()
    attempt = os.environ.get("SLURM_RESTART_COUNT", "0")  # a requeued job keeps its number
    return Path(job.paths.folder / f"{job.job_id}_{attempt}_{name}")


def _end_with_first_node() -> None:
    """End this process if the first node has ended without it: it would wait for a training that never begins."""
    while not _meeting(OVER).is_file():
        time.sleep(POLL)
    time.sleep(GRACE)
    os._exit(0)


def _cancel(jobs: "Jobs", kind: Kind) -> None:
    for job in jobs.values():
        if job.paths.result_pickle.is_file():
            continue
        if kind == "slurm":
            job.cancel(check=False)
        else:  # submitit's own way ends in a traceback
            with suppress(ProcessLookupError):
                os.kill(int(job.job_id), signal.SIGTERM)


class _Queue:
    """The jobs that have not ended yet, and the states of all jobs by id."""

    def __init__(self, kind: Kind, jobs: "Jobs") -> None:
        self.kind, self.left = kind, dict(jobs)
        self.states = {job.job_id: "SUBMITTED" for job in jobs.values()}
        self.next_question = time.monotonic()

    def note(self) -> str:
        """The number of jobs in each state."""
        counts = Counter(self.states[job.job_id].lower() for job in self.left.values())
        return ", ".join(f"{count} {state}" for state, count in counts.items())

    def ended(self) -> "list[tuple[Path, Job[list[Record]]]]":
        """Wait a moment, then return the jobs that have ended since the last call."""
        time.sleep(POLL)
        over: set[str] = set()
        if time.monotonic() >= self.next_question:
            # twice: a job's result file may become visible after its end
            before, self.states = self.states, {**self.states, **self._ask()}
            over = {key for key in self.states if {self.states[key], before[key]} <= ENDED | ENDED_HERE}
            self.next_question = time.monotonic() + ASK
        ended = [item for item in self.left.items() if item[1].paths.result_pickle.is_file() or item[1].job_id in over]
        for folder, _ in ended:
            del self.left[folder]
        return ended

    def _ask(self) -> dict[str, str]:
        """The jobs' states; {} if SLURM does not answer now."""
        if self.kind == "local":
            return {job.job_id: job.state for job in self.left.values()}
        # not sacct, as in submitit: it needs an accounting database, which not every cluster has
        command = ["squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i %T"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            return {}
        known = dict(line.split() for line in answer.stdout.splitlines())
        return {job.job_id: known.get(job.job_id, "GONE") for job in self.left.values()}


def _collect(job: "Job[list[Record]]", folder: Path, queue: _Queue, runtime: Runtime) -> str | None:
    """Take the records of a finished job; return the problem if it has not computed its stage."""
    job = job.task(0)  # on the first node
    if not job.paths.result_pickle.is_file():
        problem = f"it left no result; its state is {queue.states[job.job_id]}"
    elif (error := job.exception()) is not None:
        # submitit quotes the traceback between two lines of dashes
        problem = str(error).rsplit(f"\n{'-' * 22}\n", 1)[0].rstrip().splitlines()[-1]
        problem = problem.removeprefix(f"{UserError.__module__}.{UserError.__name__}: ")
        if "timed-out" in problem:  # submitit received SLURM's warning
            problem = "it ran out of time: increase --cluster.minutes"
    else:
        for record in job.result():
            runtime.tracker.record(record)
        return None
    return None if folder.is_dir() else f"{problem} (job {job.job_id}, log {job.paths.stdout})"
