"""Benchmark of the slot engine on this machine: the figures of `python -m workbench bench`.

Flash-Diffusion with the cell's solver restores the same images with few and with many slots, from measurements in
memory; scoring and data loading are not timed. Ratios are from one run, so they hold on machines of any speed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor

from workbench.metrics import psnr
from workbench.restoration import Restored
from workbench.solvers import Step
from workbench.solvers.base import middle_step
from workbench.stages.base import ensure_all
from workbench.stages.measure.estimates import degrade
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.measure.measure_cost import seconds_of, seconds_once
from workbench.stages.runtime import Runtime

CPU_SLOTS = (1, 8, 64)
GPU_SLOTS = (*CPU_SLOTS, 256, 1024)
NUM_REPEATS = 10
"""How often a step or a network is timed; the median is reported."""
NUM_COPIES = 8
"""How often each image is restored in the longer of the two runs that measure scaling with the number of images."""


@dataclass(frozen=True)
class Timed:
    """The timing of one run over images.

    Attributes:
        num_slots: number of images restored at once.
        num_images: total number of images restored.
        nfe: total number of evaluations of the prior.
        seconds: wall time.
        start_seconds: the part of `seconds` spent on estimates and starts.
        flops: total FLOPs.
        psnr: mean PSNR over images in dB.
        step_seconds: time of one step with every slot full.
    """

    num_slots: int
    num_images: int
    nfe: int
    seconds: float
    start_seconds: float
    flops: float
    psnr: float
    step_seconds: float

    @property
    def images_per_second(self) -> float:
        """Images restored per second."""
        return self.num_images / self.seconds

    @property
    def nfe_per_second(self) -> float:
        """Evaluations of the prior per second."""
        return self.nfe / self.seconds

    @property
    def overhead(self) -> float:
        """Wall time divided by the time that the steps would take with every slot full."""
        return self.seconds / (self.nfe * self.step_seconds / self.num_slots)


@dataclass(frozen=True)
class Part:
    """A part of a restoration: milliseconds and FLOPs of one evaluation per image of a full batch.

    Attributes:
        times: average number of evaluations per image.
    """

    milliseconds: float
    flops: float
    times: float = 1.0


class Bench:
    """The cell's networks, its first images and their measurements.

    Args:
        cell: the cell to benchmark, on its first `num_images` images.
        runtime: the device, and the runs folder with the artifacts that the cell needs.
    """

    def __init__(self, cell: Evaluate, runtime: Runtime) -> None:
        ensure_all(cell.upstream(), runtime)
        self.cell, self.device = cell, runtime.device
        self.restorer = cell.restorer(runtime)
        images = cell.data.split(cell.split).first(cell.num_images)
        index = torch.arange(cell.num_images)
        self.x = images.batch(index)
        self.measurement = degrade(cell.degradation, images, index, cell.seed).to(self.device)
        self.unit_flops = self.restorer.unit_flops(cell.data.image_shape)

    def slots(self) -> Iterator[int]:
        """The numbers of slots to compare: those for this device that fit into memory."""
        for num_slots in GPU_SLOTS if self.device.startswith("cuda") else CPU_SLOTS:
            try:
                self.step_seconds(num_slots)
            except torch.OutOfMemoryError:
                return
            yield num_slots

    def restore(self, num_slots: int, num_images: int | None = None, num_copies: int = 1) -> Timed:
        """Restore the first `num_images` images (by default all), each `num_copies` times with different ids."""
        restorer = replace(self.restorer, num_slots=num_slots)
        seen = self.measurement.take(slice(0, num_images))
        copies = [replace(seen, ids=seen.ids + copy) for copy in range(num_copies)]
        batches = [m.take(slice(i, i + num_slots)) for m in copies for i in range(0, len(m), num_slots)]
        list(restorer.restore([seen.take(slice(0, min(num_slots, 4)))]))  # warm-up
        step_seconds = self.step_seconds(num_slots)
        finished: list[Restored] = []
        seconds = seconds_once(lambda: finished.extend(restorer.restore(batches)), self.device)
        image_of = {key: i for m in copies for i, key in enumerate(m.ids.tolist())}
        truths = [self.x[[image_of[key] for key in part.ids.tolist()]] for part in finished]
        return Timed(
            num_slots=num_slots,
            num_images=num_copies * len(seen),
            nfe=int(_joined(part.nfe for part in finished).sum()),
            seconds=seconds,
            start_seconds=float(_joined(part.start_seconds for part in finished).sum()),
            flops=float(_joined(part.flops for part in finished).sum()),
            psnr=float(_joined(psnr(part.x_hat.cpu(), x) for part, x in zip(finished, truths, strict=True)).mean()),
            step_seconds=step_seconds,
        )

    def step_seconds(self, num_slots: int) -> float:
        """Time of one step of the solver with this many images, in the middle of the grid."""
        step = self._step(num_slots)
        return self._median(lambda: self.restorer.solver.step(step))

    def parts(self, timed: Timed) -> dict[str, Part]:
        """The parts of one image's restoration, at the batch size of `timed`."""
        step = self._step(timed.num_slots)
        accounts = [Counter[str]() for _ in range(timed.num_slots)]
        self.restorer.solver.step(replace(step, networks=step.networks.charging(accounts)))
        step_flops = sum(n * self.unit_flops[name] for name, n in accounts[0].items())
        view = step.measurement.encoder_input()
        whole = Part(1e3 / timed.images_per_second, timed.flops / timed.num_images)
        begun, nfe = 1e3 * timed.start_seconds / timed.num_images, timed.nfe / timed.num_images

        def each(call: Callable[[], object], flops: float) -> Part:
            return Part(1e3 * self._median(call) / timed.num_slots, flops)

        with torch.no_grad():
            encoder = each(lambda: self.restorer.estimator.estimate(view), self.unit_flops["severity_encoder"])
            decoder = each(lambda: self.restorer.autoencoder.decode(step.z), self.unit_flops["decoder"])
        start_flops = whole.flops - nfe * step_flops - encoder.flops - decoder.flops
        return {
            "severity encoder": encoder,
            "start rule": Part(begun - encoder.milliseconds, start_flops),
            "step": Part(1e3 * timed.step_seconds / timed.num_slots, step_flops, nfe),
            "last decoding": decoder,
            "whole restoration": whole,
        }

    def _step(self, num_images: int) -> Step:
        """A step of this many images, from start latents in the middle of the grid."""
        index = torch.arange(num_images) % len(self.measurement)
        measurement = self.measurement.take(index.to(self.device))
        with torch.no_grad():
            z = self.restorer.autoencoder.encode(measurement.encoder_input())
        return middle_step(z, measurement, self.restorer.networks(), self.cell.sampler)

    def _median(self, call: Callable[[], object]) -> float:
        """Median seconds of a call, after a warm-up."""
        return median(seconds_of(call, self.device, NUM_REPEATS))


def _joined(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat(list(parts)).double()
