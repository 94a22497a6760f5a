"""Peak memory of a piece of work: on a GPU as torch counts it, on a CPU that of a process of its own."""

import math
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from workbench.core.config import UserError

Work = Callable[[], object]
STATUS, CLEAR_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory(prepare: Callable[[], Work], device: str, preload: Sequence[str]) -> float:
    """Bytes that the work which `prepare` gives takes at most, beyond what there is when it has been prepared.

    Args:
        prepare: on a CPU a function that can be pickled, for it is called in a new process, which has kept nothing of
            other work for use again.
        preload: modules that `prepare` needs, imported once for all such processes.

    Returns:
        NaN where the system does not tell: on a CPU it is read from Linux' /proc.

    Raises:
        UserError: if the memory does not suffice.
    """
    if device.startswith("cuda"):
        return _peak_on_gpu(prepare, device)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*preload])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(_peak_of_process, prepare, torch.get_num_threads()).result()
        except BrokenProcessPool:
            raise UserError("the process that measures memory was killed: there is too little for this size") from None


def _peak_on_gpu(prepare: Callable[[], Work], device: str) -> float:
    work = prepare()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return float(torch.cuda.max_memory_allocated(device) - before)


def _peak_of_process(prepare: Callable[[], Work], num_threads: int) -> float:
    """By how much the resident set size rises, in a process that does nothing else."""
    torch.set_num_threads(num_threads)
    work = prepare()
    try:
        CLEAR_PEAK.write_text("5")  # the peak so far, that of the imports, becomes what is resident now
    except OSError:
        return math.nan
    before = _kilobytes("VmRSS")
    work()
    return 1024.0 * (_kilobytes("VmHWM") - before)


def _kilobytes(name: str) -> float:
    """A figure of this process's status; NaN where the system does not tell."""
    lines = (line.split() for line in STATUS.read_text().splitlines())
    return next((float(words[1]) for words in lines if words[:1] == [f"{name}:"]), math.nan)
