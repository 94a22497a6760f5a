"""Train on several devices: each further device has a process that repeats the stage's work up to training.

There the processes meet, as the ranks of a process group (DDP). The first rank is the process that was asked for the
stage: it alone writes, and goes on after training.
"""

import multiprocessing
import os
import queue
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import distributed, nn

from workbench.core import families
from workbench.core.config import UserError
from workbench.core.files import PARTIAL
from workbench.core.ranks import Node, Rank
from workbench.stages.base import Stage
from workbench.stages.execute.plan import elsewhere, without_interrupt
from workbench.stages.execute.processes import end_with_parent, fewer_threads, share_of_threads
from workbench.stages.runtime import Runtime

LOOK = 0.5
"""Seconds between two looks at whether the other processes are alive."""
NOTICED = 30.0
"""Seconds in which a process notices by itself that another one has died."""


class TrainedElsewhere(Exception):  # noqa: N818 (the end of a rank's work is not an error)
    """Training has ended, and another process goes on."""


@contextmanager
def together(stage: Stage | None, folder: Path, runtime: Runtime) -> Iterator[Rank | None]:
    """This process's rank in a training on all devices of the runtime; None: it is alone.

    Raises:
        UserError: if another rank fails, with its message.
        TrainedElsewhere: at the end, in ranks other than the first.
    """
    if stage is None:
        yield None
    elif (rank := runtime.rank) is not None:  # a rank that was started below, or by a cluster
        if runtime.meet is not None:
            runtime.meet.put(None)
        yield rank
        if rank.number:
            raise TrainedElsewhere
    elif runtime.num_ranks == 1:
        yield None
    else:
        node = runtime.node or Node(0, 1, "127.0.0.1", free_port())
        here = runtime.num_ranks // node.of
        devices = runtime.devices or (runtime.device,)
        first = Rank(node.number * here, runtime.num_ranks, node.port, node.address, node.of, devices)
        with _others(stage, folder, runtime, first):
            yield first
        if first.number:
            raise TrainedElsewhere


@contextmanager
def _others(stage: Stage, folder: Path, runtime: Runtime, first: Rank) -> Iterator[None]:
    """Processes for the other ranks of this machine."""
    context = multiprocessing.get_context("spawn")
    told: Any = context.Queue()
    processes = []
    for place, device in list(enumerate(runtime.devices))[1:]:
        rank = replace(first, number=first.number + place)
        away = replace(elsewhere(runtime), device=device, devices=(), rank=rank, meet=told)
        arguments = (stage, folder, away, share_of_threads(first.num_local), families.allowed())
        processes.append(context.Process(target=_take_part, args=arguments, daemon=True))
    try:
        with without_interrupt():
            for process in processes:
                process.start()
        _wait_for_all(told, processes)
        try:
            with fewer_threads(first.num_local), _watched(processes):
                yield
        except RuntimeError as error:
            # a collective operation fails once a rank is gone
            is_lost = isinstance(error, distributed.DistError) or "gloo" in str(error)
            if is_lost and processes and (problem := _problem(told)) is not None:
                raise UserError(problem) from error
            raise
    finally:
        for process in processes:
            process.kill()  # Lightning handles SIGTERM, which a process that waits for others never gets to
            process.join()


@contextmanager
def _watched(processes: list[Any]) -> Iterator[None]:
    """End this process if another one has died and this one does not notice: it may wait for it where nothing wakes it.

    Usually a collective operation fails first.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK):
            # one that has ended well has trained to the end, while rank 0 may still validate
            if any(process.exitcode not in (None, 0) for process in processes) and not over.wait(NOTICED):
                print("error: a training process was killed: run the same command again to resume", file=sys.stderr)
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _wait_for_all(told: Any, processes: list[Any]) -> None:
    """Wait until every process is about to train."""
    left = len(processes)
    while left:
        try:
            problem = told.get(timeout=LOOK)
        except queue.Empty:
            if not all(process.is_alive() for process in processes):
                raise UserError("a training process was killed, perhaps because memory ran out") from None
            continue
        if problem is not None:
            raise UserError(problem)
        left -= 1


def _problem(told: Any) -> str | None:
    """The message of a rank that has failed."""
    try:
        message = told.get(timeout=LOOK)
    except queue.Empty:
        return "a training process was killed, perhaps because memory ran out: run the same command again to resume"
    return None if message is None else str(message)


def _take_part(stage: Stage, folder: Path, runtime: Runtime, threads: int, allowed: list[str]) -> None:
    """The work of a rank other than the first."""
    import torch

    families.allow(*allowed)
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        stage.work(folder, runtime)
    except TrainedElsewhere:
        pass
    except Exception as error:  # noqa: BLE001 (whatever it is, rank 0 reports it)
        assert runtime.meet is not None
        runtime.meet.put(f"a training process failed: {error or type(error).__name__}")
        raise SystemExit(1) from None


def check_devices(label: str, splits_batches: bool, batch_size: int, num_devices: int) -> None:
    """Raise UserError for a training that several devices cannot share."""
    if num_devices == 1:
        return
    if not splits_batches:
        raise UserError(f"the {label} cannot be trained on several devices: leave out --devices")
    if batch_size % num_devices:
        raise UserError(
            f"the {label}: {num_devices} devices cannot share batches of {batch_size} equally: "
            "choose another number of --devices, or another batch_size"
        )


def check_layers(network: nn.Module, label: str) -> None:
    """Raise UserError for layers whose output depends on the rest of a batch, or on draws of their own."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) or (
            isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
        ):
            raise UserError(
                f"the {label} has a {type(module).__name__} layer, which gives other results on several devices: "
                "leave out --devices"
            )


def assist(stage: Stage, runtime: Runtime) -> None:
    """The part of a node other than the first in making a stage: it trains, if the stage does."""
    if stage.trains and not stage.is_cached(runtime):
        with suppress(TrainedElsewhere):
            stage.work(stage.folder(runtime).with_suffix(PARTIAL), runtime)


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
