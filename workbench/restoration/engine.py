"""The slot engine: full batches although every image has its own start.

A pool of slots holds images at different noise levels. When an image is finished, the next one takes its slot, like
continuous batching of language models. The cost of a data set is the sum of its images' steps, not the worst case times
the number of images.

Of the waiting images, the one with the most remaining steps enters first (longest processing time first; Graham, SIAM
J. Appl. Math. 17, 1969): a long one that entered last would keep one slot busy while all others are empty.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.core.tensors import Latents
from workbench.diffusion import DDIM, Chain
from workbench.diffusion.sampler import noise_for
from workbench.restoration.record import Record
from workbench.solvers.base import Networks, Solver, Step

LOOKAHEAD = 3
"""Number of waiting images, as a multiple of the slots, among which the longest is chosen. A waiting image is a
measurement and a latent, small compared with the memory of a step."""
LARGEST_RMS = 100.0
"""Root mean square above which a latent counts as diverged: at every noise level it should be about 1."""


@dataclass
class Batch:
    """Images that are waiting, in slots or finished, with their records.

    Attributes:
        measurement: the measurements.
        z: their current latents.
        position: position of each image in the sampler's grid, (batch,) int64 on the CPU; the grid's length if
            finished.
        records: the images' records; created if not given.
    """

    measurement: Measurement
    z: Latents
    position: Tensor
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.records = self.records or [Record(image_id) for image_id in self.measurement.ids.tolist()]

    def __len__(self) -> int:
        return len(self.records)

    def take(self, index: Tensor) -> "Batch":
        """The images at `index`, int64 on the CPU."""
        on_device = index.to(self.z.device)
        records = [self.records[i] for i in index.tolist()]
        return Batch(self.measurement.take(on_device), self.z[on_device], self.position[index], records)

    def join(self, other: "Batch") -> "Batch":
        """These images, followed by the others."""
        return Batch(
            Measurement.cat([self.measurement, other.measurement]),
            torch.cat([self.z, other.z]),
            torch.cat([self.position, other.position]),
            self.records + other.records,
        )


def time_on(device: torch.device) -> float:
    """A clock in seconds, read after the device has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Engine:
    """Runs a solver over images that start and end at different times.

    All random draws come from generators keyed by (seed, image id), so an image's result does not depend on the number
    of slots, the order or the other images, except for floating-point rounding.

    Args:
        networks: the networks and the operator.
        solver: the update rule of a step.
        sampler: the chain and the reverse step.
        seed: keys the noise.
        num_slots: number of images restored at once; halved if a step of this size does not fit into GPU memory.
        say: called with a message when that happens.
        under_way: called after each step with the number of images in slots, each counted by the part of its steps that
            it has taken.
    """

    def __init__(
        self,
        networks: Networks,
        solver: Solver,
        sampler: DDIM,
        seed: int,
        num_slots: int = 64,
        say: Callable[[str], None] = lambda line: None,
        under_way: Callable[[float], None] = lambda images: None,
    ) -> None:
        self.networks, self.solver, self.sampler = networks, solver, sampler
        self.seed, self.num_slots, self.say, self.under_way = seed, num_slots, say, under_way

    def chain(self, latent_shape: tuple[int, ...]) -> Chain:
        """The noise levels of the chain for latents of (channel, height, width)."""
        return self.sampler.chain(self.networks.prior.levels, latent_shape)

    def run(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Bring every image of every batch to the clean end; yield images as they finish."""
        source = iter(batches)
        if (first := next(source, None)) is None:
            return
        chain, waiting = self.chain(first.z.shape[1:]), self._entering(first)
        slots = waiting.take(torch.arange(0))  # empty, with the shapes of a batch
        while True:
            slots, waiting = self._fill(slots, waiting, source)
            if not len(slots):
                return
            done = slots.position >= len(chain)
            if bool(done.any()):
                yield slots.take(done.nonzero().flatten())
                slots = slots.take((~done).nonzero().flatten())
            else:
                self._advance(slots, chain)
                entered = torch.tensor([record.entered for record in slots.records])
                self.under_way(float(((slots.position - entered) / (len(chain) - entered)).sum()))

    def _fill(self, slots: Batch, waiting: Batch, source: Iterator[Batch]) -> tuple[Batch, Batch]:
        """Fill free slots with the waiting images that have the most steps left, and read more as they become fewer."""
        free = self.num_slots - len(slots)
        if free <= 0:
            return slots, waiting
        while len(waiting) < free + LOOKAHEAD * self.num_slots:
            if (batch := next(source, None)) is None:
                break
            waiting = waiting.join(self._entering(batch))
        if not len(waiting):
            return slots, waiting
        # the earliest position has the most steps left; a stable sort keeps arrival order, so that runs are repeatable
        longest_first = waiting.position.argsort(stable=True)
        return slots.join(waiting.take(longest_first[:free])), waiting.take(longest_first[free:])

    def _entering(self, batch: Batch) -> Batch:
        # one generator per image: its draws do not depend on when it enters or on the other images
        for record, position in zip(batch.records, batch.position.tolist(), strict=True):
            record.generator = randomness.generator(self.seed, "step", record.image_id)
            record.entered = position
        return batch

    def _advance(self, slots: Batch, chain: Chain) -> None:
        """Take one reverse step of every image."""
        started = time_on(slots.z.device)
        z, position, records = slots.z, slots.position, slots.records
        generators = [record.generator for record in records if record.generator is not None]
        noise = noise_for(z, generators) if self.sampler.eta else torch.zeros_like(z)
        step = Step(
            z=z,
            position=position,
            chain=chain,
            noise=noise,
            measurement=slots.measurement,
            networks=self.networks.charging([record.evaluations for record in records]),
            sampler=self.sampler,
            solver_noise=noise_for(z, generators) if self.solver.draws_noise else None,
        )
        advanced = self._in_parts(step)
        # the images of a batch cannot be timed separately: each is charged an equal part
        share = (time_on(z.device) - started) / len(slots)
        for record in records:
            record.seconds += share
        # written so that non-finite latents fail too
        sound = (advanced.flatten(1).square().mean(1).sqrt() <= LARGEST_RMS).cpu()
        if not bool(sound.all()):
            for i in (~sound).nonzero().flatten().tolist():
                records[i].diverged = True
            # keep the last valid latent: NaN would reach the decoder and every mean
            advanced = torch.where(sound.to(z.device).reshape(-1, 1, 1, 1), advanced, z)
        slots.z, slots.position = advanced.detach(), torch.where(sound, position + 1, len(chain))

    def _in_parts(self, step: Step) -> Latents:
        """The solver's step for all images: at once or, if memory has run out, in parts that fit.

        Raises:
            UserError: if a single image does not fit.
        """
        parts: list[Latents] = []
        first = 0
        while first < len(step.z):
            index = torch.arange(first, min(first + self.num_slots, len(step.z)))
            part = self._attempt(step if len(index) == len(step.z) else step.take(index))
            if part is None:
                self._halve(len(index))
            else:
                parts.append(part)
                first += len(index)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _attempt(self, step: Step) -> Latents | None:
        """The solver's step, charged to the images if it succeeds; None if memory runs out."""
        charged = step.networks.accounts
        assert charged is not None
        # count on copies: the evaluations of a failed step are repeated and must not be counted twice
        spent = [Counter[str]() for _ in charged]
        try:
            advanced = self.solver.step(replace(step, networks=step.networks.charging(spent)))
        except torch.OutOfMemoryError:
            return None  # only now can the memory be freed: the error's traceback holds it
        for account, count in zip(charged, spent, strict=True):
            account.update(count)
        return advanced

    def _halve(self, num_images: int) -> None:
        """Halve the number of slots after a step of this many images did not fit."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # frees blocks allocated for other sizes
        if num_images == 1:
            raise UserError(
                "a step of one image does not fit into the device's memory: use a smaller model or another device"
            )
        self.num_slots = num_images // 2
        self.say(f"{num_images} images at once do not fit into the device's memory: continuing with {self.num_slots}")
