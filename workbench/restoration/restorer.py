"""Flash-Diffusion (arXiv 2309.06642, algorithm 1): y -> x_hat, with severity, start and cost. Needs no ground truth."""

import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import torch
from torch import Tensor

from workbench.autoencoders import Autoencoder
from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.flop_counter import flop_counter
from workbench.core.measurement import Measurement
from workbench.core.tensors import Images, Latents, Measurements
from workbench.degradations import Degradation, members_of, pseudo_inverse
from workbench.diffusion import DDIM, Prior
from workbench.restoration.any_shape import adapted
from workbench.restoration.device_memory import StepMemory
from workbench.restoration.engine import Batch, Engine, time_on
from workbench.restoration.record import Record, Restored
from workbench.severity.calibration import Fusion, NonBlindFit, Recalibration
from workbench.severity.estimator import Estimator, ReadsMeasurements, seen_by
from workbench.severity.start import ChoosesStart
from workbench.severity.start.base import all_from, check_start
from workbench.severity.variance import Evidence, Need
from workbench.solvers.base import Networks, Precision, Solver

GROUPS = 4
"""Finished images are decoded and evaluated in groups of this fraction of the slots."""


@dataclass
class Restorer:
    """Severity encoder, start rule and solver combined.

    Attributes:
        autoencoder, prior: the latent diffusion model.
        estimator: the severity encoder.
        degradation: the forward operator; its per-image parameters come with the measurements.
        start: the rule that chooses the start.
        solver, sampler: the update rule of a step, and the chain.
        seed: keys all random draws.
        num_draws: restorations of each image with other noise, of which the one with the smallest residual is kept; see
            `restoration.draws`.
        num_slots: number of images restored at once, for images of at most `slot_pixels`.
        slot_pixels: fewer larger images are restored at once, so that memory does not grow with their size; None: as
            many, whatever their size.
        precision: precision of prior and autoencoder in the solver's steps; bf16: autocast. Start and decoding are
            float32.
        checkpointing: whether steps keep no activations for their gradients, and compute them again: less memory, more
            FLOPs, which are counted.
        in_tiles: whether the last latent is decoded in tiles; see `Autoencoder.decode_in_tiles`.
        say: called with a message if this many images do not fit into memory.
        under_way: called after each step with the images that are being restored; see `Engine`.
        fusion: in-distribution statistics of the severity encoder, for start rules that need them.
        recalibration: recalibration of its variance, for start rules that need it.
        non_blind: regression of its error's variance for the operator, for start rules that need it.
        guess: the input of the estimator: the image-domain view of y, or its pseudo-inverse.
        counted: the networks' FLOPs by image shape, counted when first needed; restorers with networks of the same
            architecture may share it.
        measured: what steps and decoding take of memory (`restoration.memory`), measured when first needed and shared
            likewise.
    """

    autoencoder: Autoencoder
    prior: Prior
    estimator: Estimator
    degradation: Degradation
    start: ChoosesStart
    solver: Solver
    sampler: DDIM
    seed: int = 0
    num_draws: int = 1
    num_slots: int = 64
    slot_pixels: int | None = None
    fusion: Fusion | None = None
    recalibration: Recalibration | None = None
    non_blind: NonBlindFit | None = None
    guess: Literal["view", "pseudo_inverse"] = "view"
    precision: Precision = "float32"
    checkpointing: bool = False
    in_tiles: bool = False
    say: Callable[[str], None] = lambda line: None
    under_way: Callable[[float], None] = lambda images: None
    counted: dict[tuple[int, int, int], dict[str, float]] = field(default_factory=dict, repr=False)
    measured: dict[Hashable, StepMemory] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.solver.check(self.degradation)
        if self.num_draws > 1 and not self.solver.diffuses:
            raise UserError(f"{self.solver.kind} draws no noise, so that all draws are the same: set num_draws=1")
        if self.non_blind is not None:
            self.non_blind = self.non_blind.of([member.canonical() for member in members_of(self.degradation)])
            if self.non_blind is None:
                raise UserError(
                    f"start.variance=non_blind was fitted to another operator than this {self.degradation.kind}: "
                    "load a restorer for it"
                )

    def networks(self) -> Networks:
        """The networks that the solver's steps evaluate."""
        return Networks(
            self.autoencoder,
            self.prior,
            self.degradation,
            precision=self.precision,
            checkpointing=self.checkpointing,
        )

    def restore(
        self, measurements: Iterable[Measurement], truth: Callable[[Measurement], Latents] | None = None
    ) -> Iterator[Restored]:
        """Restore every image of every measurement; yield images as they finish.

        Images may have any height and width, the same in all measurements. Measurements are read as slots become free,
        so memory does not grow with their number; where it is short, fewer are restored at once.

        Args:
            truth: returns the clean latents; only called for oracle start rules.

        Raises:
            UserError: for images with another number of channels than the model's, greyscale is accepted for colour; or
                if one image does not fit into memory.
        """
        source = iter(measurements)
        if (first := next(source, None)) is not None:
            _, channels, height, width = first.encoder_input().shape
            from workbench.restoration.draws import best_of_draws  # which runs restorers
            from workbench.restoration.memory import fitted  # which measures them

            fits, whole = fitted(self, (channels, height, width)), itertools.chain([first], source)
            yield from fits._restore(whole, truth) if self.num_draws == 1 else best_of_draws(fits, whole, truth)

    def for_images(self, image_shape: tuple[int, int, int]) -> Self:
        """The restorer for (channel, height, width) images: itself if its networks take them.

        Raises:
            UserError: for a number of channels that it cannot be adapted to.
        """
        autoencoder, estimator = adapted(self.autoencoder, self.estimator, self.prior, image_shape)
        slots = self.num_slots
        if self.slot_pixels is not None:
            slots = max(1, min(slots, slots * self.slot_pixels // (image_shape[1] * image_shape[2])))
        if autoencoder is self.autoencoder and slots == self.num_slots:
            return self
        return replace(self, autoencoder=autoencoder, estimator=estimator, num_slots=slots, slot_pixels=None)

    def _restore(
        self, measurements: Iterable[Measurement], truth: Callable[[Measurement], Latents] | None
    ) -> Iterator[Restored]:
        engine = Engine(self.networks(), self.solver, self.sampler, self.seed, self.num_slots, self.say, self.under_way)
        known = truth if Need.TRUTH in self.start.needs else None
        under_way: set[int] = set()
        batches = (self._begin(m, engine, known(m) if known else None, under_way) for m in measurements)
        for finished in self._gathered(engine.run(batches)):
            under_way.difference_update(record.image_id for record in finished.records)
            yield self._end(finished)

    def _gathered(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Group the images of `batches` for efficient decoding, because they finish one or two at a time."""
        group: Batch | None = None
        for batch in batches:
            group = batch if group is None else group.join(batch)
            if len(group) >= self.num_slots // GROUPS:
                yield group
                group = None
        if group is not None:
            yield group

    def restore_all(self, measurement: Measurement, truth: Callable[[Measurement], Latents] | None = None) -> Restored:
        """Restore every image of one measurement; return all, in its order."""
        return Restored.joined(list(self.restore([measurement], truth)), measurement.ids)

    @torch.no_grad()
    def _begin(self, measurement: Measurement, engine: Engine, truth: Latents | None, under_way: set[int]) -> Batch:
        """Estimate the severity and choose the start."""
        clock = time_on(measurement.y.device)
        keys = measurement.ids.tolist()
        if len(set(keys)) < len(keys) or not under_way.isdisjoint(keys):
            raise ValueError(
                "two measurements in progress have the same image id: ids key the noise and must be unique"
            )
        under_way.update(keys)
        records = [Record(key, evaluations=Counter(severity_encoder=1)) for key in keys]
        estimate = self.estimator.estimate(self._seen(measurement))
        shape = tuple(estimate.z_hat.shape[1:])
        chain, noise = engine.chain(shape), randomness.normal(measurement.ids, (self.seed, "start"), shape)
        networks = Networks(self.autoencoder, self.prior, self.degradation, [record.evaluations for record in records])
        evidence = Evidence(
            estimate,
            measurement,
            self.seed,
            forward=networks.forward,
            encode=lambda y, m: self._encode(y, m, records),
            residual=lambda z, m: m.residual_rms(networks.measure(self._decoded(z, networks).clamp(0, 1), m)),
            fusion=self.fusion,
            recalibration=self.recalibration,
            non_blind=self.non_blind,
            truth=truth,
        )
        if self.solver.diffuses:
            # only what the rule declares: one that peeks at the ground truth fails instead of cheating
            start = self.start(evidence.only(self.start.needs), chain, noise.to(estimate.z_hat))
            check_start(start, estimate.z_hat, chain, getattr(self.start, "kind", type(self.start).__name__))
        else:
            start = all_from(estimate.z_hat, len(chain))
        times, var_hat = chain.recorded_time(start.position), estimate.predicted_s2()
        share = (time_on(start.z.device) - clock) / len(measurement)
        for i, record in enumerate(records):
            record.z0 = None if truth is None else truth[i]
            record.z_hat, record.var_hat = estimate.z_hat[i], var_hat[i]
            if start.variance is not None:
                record.start_variance = start.variance[i].float()
            record.distrusted = start.distrusted is not None and bool(start.distrusted[i])
            record.start_timestep = times[i]
            record.fell_back = bool(start.fell_back[i])
            record.seconds = record.start_seconds = share
        return Batch(measurement, start.z, start.position.clone(), records)

    def _encode(self, y: Measurements, measurement: Measurement, records: list[Record]) -> Latents:
        """z_hat of other measured values, with its cost counted."""
        for record in records:
            record.evaluations["severity_encoder"] += 1
        return self.estimator.estimate(self._seen(self.degradation.with_values(measurement, y))).z_hat

    def _seen(self, measurement: Measurement) -> Images:
        """The input of the estimator."""
        if self.guess == "pseudo_inverse":
            return pseudo_inverse(self.degradation, measurement)
        return seen_by(self.estimator, self.degradation, measurement)

    @torch.no_grad()
    def _end(self, finished: Batch) -> Restored:
        """Decode the images and finalize their records."""
        clock = time_on(finished.z.device)
        x_hat = self._decode(finished.z).clamp(0, 1)
        share = (time_on(x_hat.device) - clock) / len(x_hat)
        unit = self.unit_flops((x_hat.shape[1], x_hat.shape[2], x_hat.shape[3]))
        for record in finished.records:
            record.evaluations["decoder"] += 1
            record.flops = sum(times * unit[name] for name, times in record.evaluations.items())
            record.seconds += share
        return Restored(finished.measurement, x_hat, finished.records)

    def _decode(self, z: Latents) -> Images:
        return self.autoencoder.decode_in_tiles(z) if self.in_tiles else self.autoencoder.decode(z)

    def _decoded(self, z: Latents, networks: Networks) -> Images:
        """D(z) without a gradient, counted."""
        if not self.in_tiles:
            return networks.decode(z)
        for account in networks.accounts or ():
            account["decoder"] += 1
        return self._decode(z)

    def unit_flops(self, image_shape: tuple[int, int, int]) -> dict[str, float]:
        """FLOPs of one evaluation on one (channel, height, width) image, by torch's counter.

        "_grad" means an evaluation and the backward pass to its input, "_backward" a further backward pass.
        """
        if image_shape not in self.counted:
            self.counted[image_shape] = self._count_flops(image_shape)
        return self.counted[image_shape]

    def _count_flops(self, image_shape: tuple[int, int, int]) -> dict[str, float]:
        device = next(self.autoencoder.parameters()).device
        x = torch.zeros(1, *image_shape, device=device)
        z = torch.zeros(1, *self.autoencoder.latent_shape(image_shape), device=device)
        time = torch.zeros(1)
        networks = self.networks()
        calls: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
            "prior": (lambda z: networks.predict(z, time)[0], z),
            "decoder": (networks.decode, z),
            "encoder": (self.autoencoder.encode, x),
        }
        flops = {}
        for name, (call, argument) in calls.items():
            with flop_counter() as counter, torch.no_grad():
                (self._decode if name == "decoder" and self.in_tiles else call)(argument)
            flops[name] = float(counter.get_total_flops())
            if self.in_tiles and name != "prior":  # without guidance: nothing needs their gradient
                flops |= {f"{name}_grad": 0.0, f"{name}_backward": 0.0}
                continue
            argument = argument.clone().requires_grad_(True)
            with flop_counter() as counter, torch.enable_grad():
                # backward instead of autograd.grad, which the counter does not support on leaves; weights are frozen
                call(argument).sum().backward()
            flops[f"{name}_grad"] = float(counter.get_total_flops())
            flops[f"{name}_backward"] = flops[f"{name}_grad"] - flops[name]
        for name in ("prior", "prior_grad", "prior_backward"):  # an evaluation with guidance counts as two
            flops[name] /= self.prior.calls
        with flop_counter() as counter, torch.no_grad():
            self.estimator.estimate(x)
        # what prepares an estimator's input has counted itself
        before = (self.estimator.flops or 0.0) if isinstance(self.estimator, ReadsMeasurements) else 0.0
        return flops | {"severity_encoder": before + float(counter.get_total_flops())}
