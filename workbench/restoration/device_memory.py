"""Memory of a device: what is free, and what some work allocates."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

MARGIN = 1.6
"""What a process takes for what is counted here: it also holds the operator's memory, and the allocator's."""
MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True)
class StepMemory:
    """Peak of what one step of one image allocates, bytes: fixed + per_pixel * pixels."""

    fixed: float
    per_pixel: float

    def of(self, num_pixels: int, num_images: int = 1) -> float:
        """Memory that a step takes, besides the networks' weights, for this many images of num_pixels each."""
        return MARGIN * (self.fixed + self.per_pixel * num_pixels * num_images)

    def fitting(self, num_bytes: float, num_pixels: int) -> int:
        """How many such images fit into so much memory at once."""
        return int((num_bytes / MARGIN - self.fixed) / max(1.0, self.per_pixel * num_pixels))


def free_memory(device: torch.device) -> float | None:
    """Free memory of the device, bytes; None if it is not known."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
    if device.type != "cpu" or not MEMINFO.is_file():
        return None
    lines = dict(line.split(":", 1) for line in MEMINFO.read_text(encoding="utf-8").splitlines() if ":" in line)
    free = 1024.0 * int(lines["MemAvailable"].split()[0])
    limits = (_cgroup_free(Path("/sys/fs/cgroup"), "memory.max", "memory.current"),)
    return min([free, *(limit for limit in limits if limit is not None)])


def size_text(num_bytes: float) -> str:
    """A number of bytes for a message."""
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 / 10 else f"{num_bytes / 2**20:.2g} MiB"


def _cgroup_free(folder: Path, most: str, now: str) -> float | None:
    """What is left of a container's memory limit; None if there is none."""
    try:
        limit, used = (folder / most).read_text().strip(), (folder / now).read_text().strip()
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        # files that were read and are kept in case they are read again count as used, and are given up first
        return float(limit) - float(used) + float(statistics.get("inactive_file", 0))
    except (OSError, ValueError):  # no such file, or no limit ("max")
        return None


def peak_on_gpu(work: Callable[[], object], device: torch.device | str) -> float:
    """Peak of the memory that work allocates on a GPU, bytes."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return float(torch.cuda.max_memory_allocated(device) - before)


def peak(work: Callable[[], object], device: torch.device) -> float:
    """Peak of the memory that work allocates, bytes."""
    if device.type == "cuda":
        return peak_on_gpu(work, device)
    from torch.profiler import ProfilerActivity, profile

    gc.collect()  # what is freed meanwhile must be the work's own
    with _silent(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    assert found.profiler is not None
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = least = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        least = min(least, now)  # below 0: older memory was freed
        peak = max(peak, now - least)
    return float(peak)


@contextmanager
def _silent() -> Iterator[None]:
    """Hide what the profiler's library writes to the terminal past Python."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
