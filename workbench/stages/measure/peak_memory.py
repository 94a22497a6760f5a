"""Peak memory of a piece of work: on a GPU as counted by torch, on a CPU in a separate process."""

import math
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from workbench.core.config import UserError
from workbench.restoration.device_memory import peak_on_gpu

Work = Callable[[], object]
STATUS, CLEAR_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory(prepare: Callable[[], Work], device: str, preload: Sequence[str]) -> float:
    """Peak memory in bytes of the work returned by `prepare`, in excess of the memory before it.

    Args:
        prepare: on a CPU a picklable function, because it is called in a new process, which has no memory left over
            from other work.
        preload: modules that `prepare` needs, imported once for all such processes.

    Returns:
        NaN if the system does not report it: on a CPU it is read from Linux' /proc.

    Raises:
        UserError: if the memory is not sufficient.
    """
    if device.startswith("cuda"):
        return _peak_on_gpu(prepare, device)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*preload])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(_peak_of_process, prepare, torch.get_num_threads()).result()
        except BrokenProcessPool:
            raise UserError(
                "the process that measures memory was killed: there is not enough memory for this size"
            ) from None


def _peak_on_gpu(prepare: Callable[[], Work], device: str) -> float:
    return peak_on_gpu(prepare(), device)


def _peak_of_process(prepare: Callable[[], Work], num_threads: int) -> float:
    """Increase of the resident set size in a process that does nothing else."""
    torch.set_num_threads(num_threads)
    work = prepare()
    try:
        CLEAR_PEAK.write_text("5")  # resets the peak, which includes the imports, to the current size
    except OSError:
        return math.nan
    before = _kilobytes("VmRSS")
    work()
    return 1024.0 * (_kilobytes("VmHWM") - before)


def _kilobytes(name: str) -> float:
    """A figure of this process's status; NaN if the system does not report it."""
    lines = (line.split() for line in STATUS.read_text().splitlines())
    return next((float(words[1]) for words in lines if words[:1] == [f"{name}:"]), math.nan)
