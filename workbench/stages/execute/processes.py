"""Run the missing stages of a study in several processes on this machine, each with its share of the threads."""

import multiprocessing
import os
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.core import families
from workbench.core.config import UserError
from workbench.core.progress import Relay, Update, relayed
from workbench.stages.base import Stage, ensure_all
from workbench.stages.cache import POLL
from workbench.stages.execute.plan import Plan, elsewhere, without_interrupt
from workbench.stages.runtime import Runtime
from workbench.tracking.record import Record

MAX_JOBS = 1024
LONG = 60.0
"""Seconds of work, at nominal rates, above which starting processes pays off."""
SMALL = 4.0
"""Relative cost up to which networks leave a second thread half idle. Larger networks use it, and need memory."""
MEMORY = 2 * 2**30
"""Bytes per process: PyTorch, the data and small networks need half of this."""


def ensure_in_processes(
    stages: Sequence[Stage], runtime: Runtime, update: Update | None = None, *, num_processes: int
) -> None:
    """Compute all missing artifacts, several at once, each as soon as its dependencies exist.

    If one stage fails, the others continue, except those that depend on it; its error is raised at the end.

    Args:
        update: called with the number of `stages` that exist.

    Raises:
        UserError: like `ensure_all`, or if a process is killed.
    """
    _ensure(Plan(stages, runtime), stages, runtime, update, num_processes)


def _ensure(plan: Plan, stages: Sequence[Stage], runtime: Runtime, update: Update | None, num_processes: int) -> None:
    tell = update or (lambda done, total, note="": None)
    errors, waited = list[BaseException](), False
    try:
        with _workers(num_processes, runtime) as pool:
            at_work: dict[Future[tuple[list[Stage], list[Record]]], Path] = {}
            ready = plan.ready()
            while ready or at_work:
                with without_interrupt():
                    at_work |= {pool.submit(_attempt, plan.missing[folder]): folder for folder in ready}
                tell(plan.num_there(), len(stages))
                ready = []
                for future in wait(at_work, return_when=FIRST_COMPLETED).done:
                    folder = at_work.pop(future)
                    if isinstance(error := future.exception(), BrokenProcessPool):
                        raise error
                    if error is not None:
                        errors.append(error)
                        runtime.progress.say(f"failed, the others continue: {plan.missing[folder].label}")
                        continue
                    busy, records = future.result()
                    for record in records:
                        runtime.tracker.record(record)
                    if not busy:
                        plan.made(folder)
                        continue
                    ready.append(folder)  # after stages that are free
                    if not waited:
                        runtime.progress.say(f"waiting for another process: {busy[0].label}")
                    waited = True
                ready += plan.ready()
    except BrokenProcessPool:
        raise UserError(
            "one of the processes was killed, perhaps because memory ran out: "
            "run the same command again with fewer --jobs to resume"
        ) from None
    if errors:
        raise errors[0]
    ensure_all(stages, runtime, update)


def ensure_quickest(stages: Sequence[Stage], runtime: Runtime, update: Update | None = None) -> None:
    """Compute all missing artifacts in as many processes as `quickest_number` returns."""
    plan = Plan(stages, runtime)
    number = quickest_number(plan.missing.values(), runtime.device, len(runtime.devices))
    if number == 1:
        ensure_all(stages, runtime, update)
    else:
        _ensure(plan, stages, runtime, update, number)


def shares_of(devices: Sequence[str], num_processes: int) -> list[tuple[str, ...]]:
    """The devices of each process: equal shares, or one that several processes have."""
    each = max(1, len(devices) // num_processes)
    firsts = [number * each % len(devices) for number in range(num_processes)]
    return [tuple(devices[first : first + each]) for first in firsts]


def share_of_threads(num_processes: int) -> int:
    """The threads of each of so many processes."""
    import torch

    return max(1, torch.get_num_threads() // num_processes)


@contextmanager
def fewer_threads(num_processes: int) -> Iterator[None]:
    """Use this process's share of its threads, beside others."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(share_of_threads(num_processes))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def quickest_number(missing: Collection[Stage], device: str, num_devices: int = 1) -> int:
    """The number of processes that computes these stages fastest: one per thread if the networks are small.

    With several devices, each has one.

    A batch of small images is too little work to share among threads, but several stages are not. The results of one
    thread do not depend on the number of threads.
    """
    import torch

    if any(stage.is_timing for stage in missing):
        return 1
    if num_devices > 1:
        return max(1, min(num_devices, len(missing)))
    try:
        costs = [stage.relative_cost() for stage in missing]
        seconds = sum(s.effort() * s.seconds_per_effort * cost for s, cost in zip(missing, costs, strict=True))
    except UserError:  # the error is reported when the stage runs
        return 1
    if device != "cpu" or seconds < LONG or max(costs) > SMALL:
        return 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(torch.get_num_threads(), len(missing), memory // MEMORY))


def own_processes(devices: Sequence[str], runtime: Runtime) -> AbstractContextManager[ProcessPoolExecutor]:
    """Processes that help this one with a stage, one for each further device; it keeps its own share of the threads."""
    return _workers(len(devices), runtime, helped=True)


@contextmanager
def _workers(num_processes: int, runtime: Runtime, *, helped: bool = False) -> Iterator[ProcessPoolExecutor]:
    """Processes for `_attempt`; they end with this process, immediately if it does not end normally."""
    context = multiprocessing.get_context("spawn")  # forking a process with threads or CUDA is unsafe
    threads = share_of_threads(num_processes + helped)
    shares: Any = context.Queue()
    for share in shares_of(runtime.devices or (runtime.device,), num_processes):
        shares.put(share)
    with relayed(context.Queue(), runtime.progress) as queue:
        pool = ProcessPoolExecutor(
            num_processes, context, _begin, (elsewhere(runtime), shares, queue, threads, families.allowed())
        )
        try:
            yield pool
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


# in the worker processes

_runtime: Runtime


def runtime_here() -> Runtime:
    """The runtime of this process."""
    return _runtime


def _begin(runtime: Runtime, shares: Any, queue: Any, threads: int, allowed: list[str]) -> None:
    global _runtime
    families.allow(*allowed)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # torch reads it when it is loaded, with the first stage
    devices = shares.get()
    _runtime = replace(runtime, device=devices[0], devices=devices, progress=Relay(queue))
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """End with the parent: a killed parent cannot end its processes."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _attempt(stage: Stage) -> tuple[list[Stage], list[Record]]:
    """(stages of other processes that block this one, records for W&B)."""
    busy = stage.attempt(_runtime)
    if busy:
        time.sleep(POLL)
    return busy, _runtime.tracker.take()
