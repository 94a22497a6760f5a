"""Memory of a restoration, predicted before its first step: measured on small images, and scaled to their pixels."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import torch
from torch import Tensor

from workbench.core.config import UserError
from workbench.degradations import GaussianNoise
from workbench.restoration.restorer import Restorer
from workbench.solvers.base import Networks, middle_step

LEAST_SIDE = 64
"""Pixels a side of the smaller of the two images that are measured, or more if the networks need it."""
MARGIN = 1.6
"""What a process takes for what is counted here: it also holds the operator's memory, and the allocator's."""
SHARE = 0.9
"""The part of the free memory that steps may take."""
SMALL_IMAGE, SMALL_MODEL = 2**16, 2**25
"""Pixels of an image and weights of a model below which memory is not predicted: it takes seconds."""
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


def step_memory(restorer: Restorer) -> StepMemory:
    """Of one step, with no operator but noise: those of images need little beside networks."""
    return _measured(restorer, _step)


def decoding_memory(restorer: Restorer) -> StepMemory:
    """Of decoding without a gradient."""
    return _measured(restorer, _decoding)


def _measured(restorer: Restorer, work: Callable[[Restorer, int], Callable[[], object]]) -> StepMemory:
    """Of some work on one image, measured at two sizes.

    Args:
        work: (restorer, side of the image in pixels) -> the work.
    """
    base = restorer.autoencoder.downscale * restorer.prior.multiple
    side = base * ceil(LEAST_SIDE / base)
    small, large = side**2, (2 * side) ** 2
    work(restorer, side)()  # what is only allocated at the first call is no part of a step
    first = _peak(work(restorer, side), _device(restorer))
    if not _accepts(restorer, 2 * side):  # some transformers have positions up to some size only
        return StepMemory(0.0, first / small)
    second = _peak(work(restorer, 2 * side), _device(restorer))
    per_pixel = max(0.0, (second - first) / (large - small))
    return StepMemory(max(0.0, first - per_pixel * small), per_pixel)


def fitted(restorer: Restorer, image_shape: tuple[int, int, int]) -> Restorer:
    """The restorer for images of this shape, with as many at once as fit into the free memory.

    If not even one does, its steps keep fewer activations and compute them again.

    Raises:
        UserError: if one image does not fit even then; the message has the remedy.
    """
    sized = restorer.for_images(image_shape)
    num_pixels = image_shape[1] * image_shape[2]
    num_weights = sum(p.numel() for network in (restorer.prior, restorer.autoencoder) for p in network.parameters())
    free = free_memory(_device(restorer))
    if free is None or (num_pixels <= SMALL_IMAGE and num_weights <= SMALL_MODEL):
        return sized
    most = sized.num_slots
    if not sized.solver.guided:  # else decoding without a gradient takes less than a step
        decoding = decoding_memory(restorer)
        sized = _decoding_in_tiles(sized, decoding.of(num_pixels), free, image_shape)
        most = max(1, min(most, decoding.fitting(SHARE * free, num_pixels)))
    needed = 0.0
    for checkpointing in (False, True):
        # the FLOPs of its networks are others then
        counted = {} if checkpointing else sized.counted
        chosen = replace(sized, checkpointing=checkpointing, counted=counted)
        memory = step_memory(replace(restorer, checkpointing=checkpointing))
        needed = memory.of(num_pixels)
        if needed <= SHARE * free:
            if checkpointing:
                restorer.say(
                    f"a step of one {image_shape[1]} x {image_shape[2]} image needs more than the free memory "
                    f"({size_text(free)}): activations are computed again instead of kept"
                )
            at_once = max(1, memory.fitting(SHARE * free, num_pixels))
            return replace(chosen, num_slots=min(most, at_once))
    raise UserError(
        f"a step of one {image_shape[1]} x {image_shape[2]} image needs about {size_text(needed)} of memory, and "
        f"{size_text(free)} are free: restore smaller images or parts of them, or use another device"
    )


def _decoding_in_tiles(restorer: Restorer, needed: float, free: float, image_shape: tuple[int, int, int]) -> Restorer:
    """The restorer, which decodes in tiles if one image needs more than the free memory.

    Raises:
        UserError: if its autoencoder cannot.
    """
    if needed <= SHARE * free:
        return restorer
    size = f"{image_shape[1]} x {image_shape[2]}"
    if not restorer.autoencoder.tiles:
        raise UserError(
            f"decoding one {size} image needs about {size_text(needed)} of memory, and {size_text(free)} are free: "
            "restore smaller images or parts of them, or use another device"
        )
    restorer.say(f"decoding one {size} image needs more than the free memory ({size_text(free)}): decoding in tiles")
    return replace(restorer, in_tiles=True, counted={})


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


def _accepts(restorer: Restorer, side: int) -> bool:
    """Whether the prior takes latents of an image of this side."""
    try:
        restorer.prior.check_latents(
            restorer.autoencoder.latent_shape((restorer.autoencoder.image_channels, side, side))
        )
    except UserError:
        return False
    return True


def _device(restorer: Restorer) -> torch.device:
    return next(restorer.autoencoder.parameters()).device


def _step(restorer: Restorer, side: int) -> Callable[[], object]:
    """One step of one image of this side."""
    device = _device(restorer)
    operator = GaussianNoise()
    ids = torch.zeros(1, dtype=torch.int64)
    x = torch.full((1, restorer.autoencoder.image_channels, side, side), 0.5)
    measurement = operator.measure(x, torch.full((1,), 0.5), ids, 0).to(device)
    networks = Networks(
        restorer.autoencoder,
        restorer.prior,
        operator,
        precision=restorer.precision,
        checkpointing=restorer.checkpointing,
    )
    z = torch.zeros(1, *restorer.autoencoder.latent_shape((x.shape[1], side, side)), device=device)
    step = middle_step(z, measurement, networks, restorer.sampler)
    return lambda: restorer.solver.step(step)


def _decoding(restorer: Restorer, side: int) -> Callable[[], object]:
    """Decoding one image of this side."""
    shape = restorer.autoencoder.latent_shape((restorer.autoencoder.image_channels, side, side))
    z = torch.zeros(1, *shape, device=_device(restorer))
    return lambda: _without_gradient(restorer.autoencoder.decode, z)


@torch.no_grad()
def _without_gradient(network: Callable[[Tensor], Tensor], argument: Tensor) -> Tensor:
    return network(argument)


def _peak(work: Callable[[], object], device: torch.device) -> float:
    """Peak of the memory that work allocates, bytes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return float(torch.cuda.max_memory_allocated(device) - before)
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
