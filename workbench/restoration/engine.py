"""The slot engine: full batches although every image has its own start.

A pool of slots holds images at different noise levels. A slot whose image is finished takes the next one, as language
models batch continuously; the cost of a data set is the sum of its images' steps, not images times the worst case.

Of the images that wait, the one with most steps to go enters first (longest processing time first; Graham, SIAM J.
Appl. Math. 17, 1969): a long one that entered last would keep one slot busy while all others are empty.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from workbench import randomness
from workbench.config import UserError
from workbench.diffusion import DDIM, Chain
from workbench.diffusion.sampler import noise_for
from workbench.measurement import Measurement
from workbench.restoration.record import Record
from workbench.solvers.base import Networks, Solver, Step
from workbench.tensors import Latents

LOOKAHEAD = 3
"""Images that wait, as a multiple of the slots: the longest is chosen from so many. What waits is a measurement and a
latent, small beside what a step needs."""
LARGEST_RMS = 100.0
"""Root mean square beyond which an image's latent is none any more: at every noise level it should be about 1."""


@dataclass
class Batch:
    """Images that wait for slots, are in slots or have reached the clean end, and the record of each.

    Attributes:
        measurement: what was measured.
        z: their latents now.
        position: of each in the sampler's grid, (batch,) int64 on the CPU; the grid's length at the clean end.
        records: what is known of each; new ones unless given.
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
        """These images, and then the others."""
        return Batch(
            Measurement.cat([self.measurement, other.measurement]),
            torch.cat([self.z, other.z]),
            torch.cat([self.position, other.position]),
            self.records + other.records,
        )


def time_on(device: torch.device) -> float:
    """Seconds of a clock, read when the device has done all that it was told to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Engine:
    """Runs a solver over images that begin and end at different times.

    Every draw comes from a generator keyed by (seed, image id), so an image's result does not depend on the number of
    slots, the order or its neighbours beyond float rounding.

    Args:
        networks: the networks and the operator.
        solver: the rule of a step.
        sampler: the chain and the reverse step.
        seed: keys the noise.
        num_slots: images worked on at once; halved when a step of so many does not fit into a GPU's memory.
        say: told of that, in a line.
    """

    def __init__(
        self,
        networks: Networks,
        solver: Solver,
        sampler: DDIM,
        seed: int,
        num_slots: int = 64,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.networks, self.solver, self.sampler = networks, solver, sampler
        self.seed, self.num_slots, self.say = seed, num_slots, say

    def chain(self, latent_shape: tuple[int, ...]) -> Chain:
        """The noise levels that latents of (channel, height, width) go through."""
        return self.sampler.chain(self.networks.prior.levels, latent_shape)

    def run(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Bring every image of every batch to the clean end; images come out as they finish."""
        source = iter(batches)
        if (first := next(source, None)) is None:
            return
        chain, waiting = self.chain(first.z.shape[1:]), self._entering(first)
        slots = waiting.take(torch.arange(0))  # none, with the shapes of a batch
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

    def _fill(self, slots: Batch, waiting: Batch, source: Iterator[Batch]) -> tuple[Batch, Batch]:
        """Free slots taken by the longest of the images that wait, of which more are read as they become fewer."""
        free = self.num_slots - len(slots)
        if free <= 0:
            return slots, waiting
        while len(waiting) < free + LOOKAHEAD * self.num_slots:
            if (batch := next(source, None)) is None:
                break
            waiting = waiting.join(self._entering(batch))
        if not len(waiting):
            return slots, waiting
        # the earliest position has most steps to go; stable: of equals, the first to come, so that runs are repeatable
        longest_first = waiting.position.argsort(stable=True)
        return slots.join(waiting.take(longest_first[:free])), waiting.take(longest_first[free:])

    def _entering(self, batch: Batch) -> Batch:
        # a generator per image, which goes with it: its draws do not depend on when it enters, nor beside whom
        for record in batch.records:
            record.generator = randomness.generator(self.seed, "step", record.image_id)
        return batch

    def _advance(self, slots: Batch, chain: Chain) -> None:
        """One reverse step of every image."""
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
        # the images of a batch cannot be timed apart: each is charged an equal part
        share = (time_on(z.device) - started) / len(slots)
        for record in records:
            record.seconds += share
        # written so that a latent that is not finite fails it too
        sound = (advanced.flatten(1).square().mean(1).sqrt() <= LARGEST_RMS).cpu()
        if not bool(sound.all()):
            for i in (~sound).nonzero().flatten().tolist():
                records[i].diverged = True
            # it leaves with the last latent that made sense: NaN would reach the decoder and every mean
            advanced = torch.where(sound.to(z.device).reshape(-1, 1, 1, 1), advanced, z)
        slots.z, slots.position = advanced.detach(), torch.where(sound, position + 1, len(chain))

    def _in_parts(self, step: Step) -> Latents:
        """The solver's step of all images: at once, or, where memory has run out, as many at a time as fit.

        Raises:
            UserError: if one image alone does not fit.
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
        # on trial accounts: the evaluations of a step that failed are done again, and must not be counted twice
        spent = [Counter[str]() for _ in charged]
        try:
            advanced = self.solver.step(replace(step, networks=step.networks.charging(spent)))
        except torch.OutOfMemoryError:
            return None  # and only then may the memory be freed, which the error's traceback holds
        for account, count in zip(charged, spent, strict=True):
            account.update(count)
        return advanced

    def _halve(self, num_images: int) -> None:
        """Fewer slots from now on, after a step of so many images did not fit."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # what was allocated in pieces of other sizes
        if num_images == 1:
            raise UserError(
                "the device's memory does not hold a step of one image: use a smaller model or another device"
            )
        self.num_slots = num_images // 2
        self.say(f"{num_images} images at once do not fit into the device's memory: going on with {self.num_slots}")
