"""Flash-Diffusion itself (arXiv 2309.06642, algorithm 1): y -> x_hat, with severity, start and cost. Needs no truth."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Literal, Protocol

import torch
from torch import Tensor

from workbench import randomness
from workbench.autoencoders import Autoencoder
from workbench.degradations import Degradation, pseudo_inverse
from workbench.diffusion import DDIM, Prior
from workbench.measurement import Measurement
from workbench.severity.calibration import Fusion, Recalibration
from workbench.severity.estimate import SeverityEstimate
from workbench.severity.start import ChoosesStart
from workbench.severity.start.base import all_from
from workbench.severity.variance import Evidence, Need
from workbench.solvers.base import Networks, Precision, Solver
from workbench.solvers.engine import Engine, Finished, Task, time_on
from workbench.tensors import Ids, Images, Latents, Measurements


class Estimator(Protocol):
    """Anything that guesses the clean latent and the variance of its own error from the image-domain view of y."""

    def estimate(self, view: Images) -> SeverityEstimate:
        """(z_hat, var_hat) of each image."""
        ...


@dataclass(frozen=True)
class Restored:
    """Images restored, in the order in which they finished; every field has the image first.

    Attributes:
        ids: content hashes.
        x_hat: the restored images on [0, 1].
        z_hat: the severity encoder's guess of the clean latent.
        var_hat: its predicted error variance, (batch,); of a variance per channel or per element the mean.
        start_variance: the error variance that the start rule matched, (batch,); NaN where it matches none.
        distrusted: whether the residual contradicted the severity encoder, where the start rule asks.
        start_timestep: what the prior is told at its first evaluation (`Chain.recorded_time`); -1 where there was none.
        fell_back: whether the chain began from pure noise because the start rule could not use z_hat.
        diverged: whether the latent left all bounds; x_hat is then what it was before that step, decoded.
        nfe, decoder_evals, encoder_evals: evaluations of the prior, of D and of E (severity encoder included).
        flops: of all networks, gradients included; the operator's own are not counted.
        seconds: the image's share of the wall time.
        start_seconds: the part of it that went into the estimate and the choice of the start.
    """

    ids: Ids
    x_hat: Images
    z_hat: Latents
    var_hat: Tensor
    start_variance: Tensor
    distrusted: Tensor
    start_timestep: Tensor
    fell_back: Tensor
    diverged: Tensor
    nfe: Tensor
    decoder_evals: Tensor
    encoder_evals: Tensor
    flops: Tensor
    seconds: Tensor
    start_seconds: Tensor


@dataclass
class Restorer:
    """Severity encoder, start rule and solver, joined.

    Attributes:
        autoencoder, prior: the latent diffusion model.
        estimator: the severity encoder.
        degradation: the forward operator; its per-image parameters come with the measurements.
        start: where to begin.
        solver, sampler: how to go on.
        seed: keys every draw.
        num_slots: images worked on at once.
        precision: of prior and autoencoder in the solver's steps; bf16: autocast. Start and last decoding are float32.
        say: told, in a line, when memory does not hold so many images.
        fusion: what is usual for the severity encoder, for start rules that need it.
        recalibration: how its variance is made right, for start rules that need it.
        guess: what the estimator reads: the image-domain view of y, or its pseudo-inverse.
    """

    autoencoder: Autoencoder
    prior: Prior
    estimator: Estimator
    degradation: Degradation
    start: ChoosesStart
    solver: Solver
    sampler: DDIM
    seed: int = 0
    num_slots: int = 64
    fusion: Fusion | None = None
    recalibration: Recalibration | None = None
    guess: Literal["view", "pseudo_inverse"] = "view"
    precision: Precision = "float32"
    say: Callable[[str], None] = lambda line: None
    _unit_flops: dict[tuple[int, int, int], dict[str, float]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.solver.check(self.degradation)

    def networks(self) -> Networks:
        """What the solver's steps evaluate."""
        return Networks(self.autoencoder, self.prior, self.degradation, precision=self.precision)

    def restore(
        self, measurements: Iterable[Measurement], truth: Callable[[Measurement], Latents] | None = None
    ) -> Iterator[Restored]:
        """Restore every image of every measurement; images come out as they finish.

        Measurements are read as slots become free, so memory does not grow with their number.

        Args:
            truth: gives the clean latents; only oracle start rules look at them.
        """
        engine = Engine(self.networks(), self.solver, self.sampler, self.seed, self.num_slots, self.say)
        begun: dict[int, dict[str, Tensor]] = {}
        known = truth if Need.TRUTH in self.start.needs else None
        tasks = (self._begin(m, engine, known(m) if known else None, begun) for m in measurements)
        for finished in engine.run(tasks):
            yield self._end(finished, begun)

    def restore_all(self, measurement: Measurement, truth: Callable[[Measurement], Latents] | None = None) -> Restored:
        """Restore every image of one measurement, and wait for all: they come back in its order."""
        parts = list(self.restore([measurement], truth))
        joined = {field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Restored)}
        place = {image_id: i for i, image_id in enumerate(joined["ids"].tolist())}
        order = [place[image_id] for image_id in measurement.ids.tolist()]
        return Restored(**{name: values[order] for name, values in joined.items()})

    @torch.no_grad()
    def _begin(
        self, measurement: Measurement, engine: Engine, truth: Latents | None, begun: dict[int, dict[str, Tensor]]
    ) -> Task:
        """Estimate severity and choose the start; what is known of each image goes to `begun`, by id."""
        clock = time_on(measurement.y.device)
        keys = measurement.ids.tolist()
        if len(set(keys)) < len(keys) or not begun.keys().isdisjoint(keys):
            raise ValueError("two measurements of one image id are under way: ids key the noise and must differ")
        estimate = self.estimator.estimate(self._seen(measurement.y, measurement))
        shape = tuple(estimate.z_hat.shape[1:])
        chain, noise = engine.chain(shape), randomness.normal(measurement.ids, (self.seed, "start"), shape)
        accounts = [Counter(severity_encoder=1) for _ in keys]
        networks = Networks(self.autoencoder, self.prior, self.degradation, accounts)
        evidence = Evidence(
            estimate,
            measurement,
            self.seed,
            forward=networks.forward,
            encode=lambda y, m: self._encode(y, m, accounts),
            fusion=self.fusion,
            recalibration=self.recalibration,
            truth=truth,
        )
        if self.solver.diffuses:
            start = self.start(evidence.only(self.start.needs), chain, noise.to(estimate.z_hat))
        else:
            start = all_from(estimate.z_hat, len(chain))
        matched = torch.full((len(measurement),), torch.nan) if start.variance is None else start.variance.float()
        distrusted = torch.zeros(len(measurement), dtype=torch.bool) if start.distrusted is None else start.distrusted
        times, var_hat = chain.recorded_time(start.position), estimate.predicted_s2()
        share = (time_on(start.z.device) - clock) / len(measurement)
        for i, key in enumerate(keys):
            begun[key] = {
                "z_hat": estimate.z_hat[i],
                "var_hat": var_hat[i],
                "start_variance": matched[i],
                "distrusted": distrusted[i],
                "start_timestep": times[i],
                "fell_back": start.fell_back[i],
                "start_seconds": torch.tensor(share),
            }
        return Task(measurement, start.z, start.position, accounts)

    def _encode(self, y: Measurements, measurement: Measurement, accounts: list[Counter[str]]) -> Latents:
        """z_hat of other measured values, counted."""
        for account in accounts:
            account["severity_encoder"] += 1
        return self.estimator.estimate(self._seen(y, measurement)).z_hat

    def _seen(self, y: Measurements, measurement: Measurement) -> Images:
        """What the estimator reads of measured values."""
        if self.guess == "pseudo_inverse":
            return pseudo_inverse(self.degradation, y, measurement)
        view = self.degradation.view(y, measurement.params)
        return y if view is None else view

    @torch.no_grad()
    def _end(self, finished: Finished, begun: dict[int, dict[str, Tensor]]) -> Restored:
        """Decode, and settle the account."""
        clock = time_on(finished.z0.device)
        x_hat = self.autoencoder.decode(finished.z0).clamp(0, 1)
        share = (time_on(x_hat.device) - clock) / len(x_hat)
        rows = [begun.pop(key) for key in finished.ids.tolist()]
        spent = [count + Counter(decoder=1) for count in finished.evaluations]
        unit = self.unit_flops((x_hat.shape[1], x_hat.shape[2], x_hat.shape[3]))
        joined = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        seconds = joined["start_seconds"] + torch.tensor(finished.seconds) + share
        return Restored(
            ids=finished.ids,
            x_hat=x_hat,
            **joined,
            diverged=torch.tensor(finished.diverged),
            nfe=_total(spent, "prior"),
            decoder_evals=_total(spent, "decoder"),
            encoder_evals=_total(spent, "encoder") + _total(spent, "severity_encoder"),
            flops=torch.tensor([sum(n * unit[name] for name, n in c.items()) for c in spent]),
            seconds=seconds,
        )

    def unit_flops(self, image_shape: tuple[int, int, int]) -> dict[str, float]:
        """Floating-point operations of one evaluation on one (channel, height, width) image, by torch's counter.

        "_grad" stands for an evaluation and the backward pass to its input.
        """
        if image_shape not in self._unit_flops:
            self._unit_flops[image_shape] = self._count_flops(image_shape)
        return self._unit_flops[image_shape]

    def _count_flops(self, image_shape: tuple[int, int, int]) -> dict[str, float]:
        from torch.utils.flop_counter import FlopCounterMode

        device = next(self.prior.parameters()).device
        x = torch.zeros(1, *image_shape, device=device)
        z = torch.zeros(1, *self.autoencoder.latent_shape(image_shape), device=device)
        time = torch.zeros(1)
        calls: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
            "prior": (lambda z: self.prior.predict(z, time)[0], z),
            "decoder": (self.autoencoder.decode, z),
            "encoder": (self.autoencoder.encode, x),
        }
        flops = {}
        for name, (call, argument) in calls.items():
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                call(argument)
            flops[name] = float(counter.get_total_flops())
            argument = argument.clone().requires_grad_(True)
            with FlopCounterMode(display=False) as counter, torch.enable_grad():
                # backward and not autograd.grad, which the counter does not support on leaves; weights are frozen
                call(argument).sum().backward()
            flops[f"{name}_grad"] = float(counter.get_total_flops())
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.estimator.estimate(x)
        return flops | {"severity_encoder": float(counter.get_total_flops())}


def _total(spent: list[Counter[str]], network: str) -> Tensor:
    return torch.tensor([count[network] + count[f"{network}_grad"] for count in spent])
