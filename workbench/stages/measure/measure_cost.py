"""Measure the cost of the parts of a restoration on this machine: time, FLOPs, peak memory."""

import functools
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field, model_validator

from workbench.autoencoders import AnyAutoencoder, Tiny
from workbench.core import randomness
from workbench.core.bounds import BatchSize, Depth, Size
from workbench.core.config import UserError
from workbench.core.tensors import Images, Latents, Measurements
from workbench.data.base import MAX_CHANNELS
from workbench.degradations import AnyDegradation, GaussianBlur
from workbench.diffusion import DDIM, AnyPrior, PriorRecipe, Sampler, UNetRecipe
from workbench.restoration import Restorer
from workbench.severity.estimate import SeverityEstimate
from workbench.severity.recipe import SeverityRecipe
from workbench.severity.start import AnyStart, SNRMatch
from workbench.severity.variance import Evidence, Need
from workbench.solvers import LDPS, AnySolver
from workbench.solvers.base import Networks, middle_step
from workbench.stages.base import Stage
from workbench.stages.flops import DEFAULT_SHAPE, image_cost
from workbench.stages.measure.peak_memory import peak_memory
from workbench.stages.provenance import provenance
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime, place
from workbench.stages.train.train_severity import new_encoder

ENCODING, START, STEP, DECODING = OPERATIONS = ("severity encoding", "start rule", "reverse step", "decoding")
"""The start rule's cost includes the severity encoding."""
NUM_WARM_UP = 2
PRELOAD = (__name__, "diffusers", "deepinv.physics")
"""Modules that take seconds to import, for processes that measure memory."""


class MeasureCost(Stage):
    """One size and batch of one architecture: the cost of each operation on the whole batch, one row per repeat.

    Weights are random, because they do not change the cost of an operation; so the start rule must not need a fit.
    `residual` costs the same as `fused`, whose fusion is a few operations on one number per image.

    The identity describes what is measured, not where: a timing is for the machine in its row (`device`, `threads`).
    """

    name: ClassVar[str] = "measure_cost"
    version: ClassVar[int] = 2  # 2: weights with group norms have another memory layout on a CPU
    seconds_per_effort: ClassVar[float] = 0.06
    is_timing: ClassVar[bool] = True

    autoencoder: AnyAutoencoder = Tiny()
    prior: AnyPrior = UNetRecipe()
    degradation: AnyDegradation = GaussianBlur()
    start: AnyStart = SNRMatch(variance="residual")
    solver: AnySolver = LDPS()
    sampler: Sampler = DDIM(num_steps=500)
    image_size: Size = Field(32, description="pixels a side")
    channels: int = Field(1, ge=1, le=MAX_CHANNELS, description="1: grey, 3: colour")
    batch_size: BatchSize = Field(1, description="number of images at once")
    num_repeats: Depth = Field(7, description="number of timings of each operation")

    @model_validator(mode="after")
    def _measurable(self) -> "MeasureCost":
        if self.start.needs & (Need.FUSION | Need.RECALIBRATION | Need.NON_BLIND):
            raise ValueError(
                "a start rule with a fit needs a trained severity encoder: set start.variance=encoder or residual, "
                "without recalibration, risk or noise=channel"
            )
        if not self.solver.diffuses:
            raise ValueError(f"{self.solver.kind} has no reverse step: use another solver")
        self.solver.check(self.degradation)
        return self

    def effort(self) -> float:
        return (self.num_repeats + NUM_WARM_UP) * self.batch_size * (self.image_size / 32) ** 2

    def relative_cost(self) -> float:
        # the size is included in the effort
        scale = (self.image_size / DEFAULT_SHAPE[1]) ** 2
        return image_cost(self.autoencoder, None, self.image_shape) / scale

    @property
    def label(self) -> str:
        return f"cost of {self.autoencoder.label} at {self.image_size} px, batch {self.batch_size}"

    def check(self) -> None:
        """Raise UserError for sizes that the networks do not accept."""
        self.degradation.check(self.image_shape, gradient=self.solver.guided)
        with torch.random.fork_rng(devices=[]):
            self.autoencoder.build(self.channels).latent_shape(self.image_shape)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channel, height, width) of the images."""
        return self.channels, self.image_size, self.image_size

    def work(self, folder: Path, runtime: Runtime) -> None:
        import pandas as pd

        made = provenance(runtime)
        parts = Parts(self, runtime.device)
        rows = []
        with runtime.progress.task(f"measuring {self.label}") as update:
            for done, operation in enumerate(OPERATIONS):
                update(done, len(OPERATIONS), operation)
                costs = {
                    "operation": operation,
                    "flops": parts.flops(operation),
                    "peak_bytes": peak_memory(
                        functools.partial(_prepared, self, operation, runtime.device), runtime.device, PRELOAD
                    ),
                    "device": made["device"],
                    "threads": made["threads"],
                }
                timings = seconds_of(parts.operation(operation), runtime.device, self.num_repeats)
                rows += [{**costs, "repeat": repeat, "seconds": seconds} for repeat, seconds in enumerate(timings)]
        pd.DataFrame(rows).to_parquet(folder / ROWS)


class Parts:
    """Networks with random weights, a batch of measurements of random images, and the operations on them."""

    def __init__(self, stage: MeasureCost, device: str) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            autoencoder = stage.autoencoder.build(stage.channels)
            self.latent_shape = autoencoder.latent_shape(stage.image_shape)
            if not isinstance(stage.prior, PriorRecipe):
                raise UserError("the cost is measured with random weights: prior.kind=pretrained has none")
            prior = stage.prior.build(self.latent_shape)
        encoder = new_encoder(SeverityRecipe(degradation=stage.degradation), autoencoder, stage.image_shape)
        for network in (autoencoder, prior, encoder):
            place(network.eval().requires_grad_(False), device)
        ids = torch.arange(stage.batch_size)
        x = randomness.uniform(ids, ("cost", "image"), stage.image_shape)
        self.stage, self.ids, self.encoder = stage, ids, encoder
        self.measurement = stage.degradation.measure(x, stage.degradation.draw_severity(ids, 0), ids, 0).to(device)
        self.z = randomness.normal(ids, ("cost", "latent"), self.latent_shape).to(device)
        self.networks = Networks(autoencoder, prior, stage.degradation)
        self.restorer = Restorer(
            autoencoder, prior, encoder, stage.degradation, stage.start, stage.solver, stage.sampler
        )

    def operation(self, name: str) -> Callable[[], object]:
        """The operation on the whole batch."""
        return functools.partial(self._do, name, self.networks)

    def flops(self, name: str) -> float:
        """FLOPs of the networks on the whole batch, including gradients but not the operator."""
        accounts = [Counter[str]() for _ in self.ids]
        self._do(name, self.networks.charging(accounts))
        unit = self.restorer.unit_flops(self.stage.image_shape)
        return sum(times * unit[network] for account in accounts for network, times in account.items())

    def _do(self, name: str, networks: Networks) -> object:
        with torch.no_grad():  # a guided step enables the gradients that it needs
            match name:
                case "severity encoding":
                    return self._encode(self.measurement.encoder_input(), networks)
                case "start rule":
                    return self._start(networks)
                case "reverse step":
                    return self._step(networks)
                case _:
                    return networks.decode(self.z)

    def _encode(self, view: Images, networks: Networks) -> SeverityEstimate:
        for account in networks.accounts or ():
            account["severity_encoder"] += 1
        return self.encoder.estimate(view)

    def _start(self, networks: Networks) -> object:
        def encode(y: Measurements, _: object) -> Latents:
            moved = self.stage.degradation.with_values(self.measurement, y)
            return self._encode(moved.encoder_input(), networks).z_hat

        evidence = Evidence(
            self._encode(self.measurement.encoder_input(), networks),
            self.measurement,
            forward=networks.forward,
            encode=encode,
            truth=self.z,
        )
        chain = self.stage.sampler.chain(networks.prior.levels, self.z.shape[1:])
        return self.stage.start(evidence.only(self.stage.start.needs), chain, self.z)

    def _step(self, networks: Networks) -> object:
        return self.stage.solver.step(middle_step(self.z, self.measurement, networks, self.stage.sampler))


def seconds_of(work: Callable[[], object], device: str, num_repeats: int) -> list[float]:
    """Wall seconds of each of `num_repeats` calls, after a warm-up, with the device idle before and after each."""
    for _ in range(NUM_WARM_UP):
        work()
    return [seconds_once(work, device) for _ in range(num_repeats)]


def seconds_once(work: Callable[[], object], device: str) -> float:
    """Wall seconds of one call, with the device idle before and after."""
    _wait_for(device)
    started = time.perf_counter()
    work()
    _wait_for(device)
    return time.perf_counter() - started


def _wait_for(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _prepared(stage: MeasureCost, operation: str, device: str) -> Callable[[], object]:
    return Parts(stage, device).operation(operation)
