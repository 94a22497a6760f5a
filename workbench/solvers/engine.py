"""The slot engine: full batches although every image has its own start.

A pool of slots holds images at different noise levels. A slot whose image is finished takes the next one, as language
models batch continuously; the cost of a data set is the sum of its images' steps, not images times the worst case.

Of the images that wait, the one with most steps to go enters first (longest processing time first; Graham, SIAM J.
Appl. Math. 17, 1969): a long one that entered last would keep one slot busy while all others are empty.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workbench import randomness
from workbench.config import UserError
from workbench.diffusion import DDIM, Chain
from workbench.diffusion.sampler import noise_for
from workbench.measurement import Measurement
from workbench.solvers.base import Networks, Solver, Step
from workbench.tensors import Ids, Latents

LOOKAHEAD = 3
"""Images that wait, as a multiple of the slots: the longest is chosen from so many. What waits is a measurement and a
latent, small beside what a step needs."""
LARGEST_RMS = 100.0
"""Root mean square beyond which an image's latent is none any more: at every noise level it should be about 1."""


@dataclass(frozen=True)
class Task:
    """Images that wait for slots: a start for each image of a measurement.

    Attributes:
        evaluations: of each image, of each network, before its first step: what its start has cost; None: nothing.
    """

    measurement: Measurement
    z: Latents
    position: Tensor
    evaluations: Sequence[Counter[str]] | None = None


@dataclass(frozen=True)
class Finished:
    """Images that reached the clean end together.

    Attributes:
        ids: theirs, (n,).
        z0: their latents, (n, channel, height, width).
        evaluations: per image, how often each network was evaluated for it.
        seconds: per image, its share of the wall time of the steps that it took part in.
        diverged: per image, whether its latent left all bounds; z0 is then the latent before that step.
    """

    ids: Ids
    z0: Latents
    evaluations: list[Counter[str]]
    seconds: list[float]
    diverged: list[bool]


@dataclass
class _Account:
    """What belongs to one image in a slot beside its tensors."""

    generator: torch.Generator
    evaluations: Counter[str]
    seconds: float = 0.0
    diverged: bool = False


@dataclass
class _Pool:
    """Images in slots, or images that wait for slots."""

    measurement: Measurement
    z: Latents
    position: Tensor
    accounts: list[_Account]

    def __len__(self) -> int:
        return len(self.accounts)

    def take(self, index: Tensor) -> "_Pool":
        on_device = index.to(self.z.device)
        accounts = [self.accounts[i] for i in index.tolist()]
        return _Pool(self.measurement.take(on_device), self.z[on_device], self.position[index], accounts)

    def join(self, other: "_Pool") -> "_Pool":
        return _Pool(
            Measurement.cat([self.measurement, other.measurement]),
            torch.cat([self.z, other.z]),
            torch.cat([self.position, other.position]),
            self.accounts + other.accounts,
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

    def run(self, tasks: Iterable[Task]) -> Iterator[Finished]:
        """Bring every image of every task to the clean end; images come out as they finish."""
        source = iter(tasks)
        if (first := next(source, None)) is None:
            return
        chain, waiting = self.chain(first.z.shape[1:]), self._entering(first)
        slots = waiting.take(torch.arange(0))
        while True:
            slots, waiting = self._fill(slots, waiting, source)
            if not len(slots):
                return
            done = slots.position >= len(chain)
            if bool(done.any()):
                yield self._finished(slots.take(done.nonzero().flatten()))
                slots = slots.take((~done).nonzero().flatten())
            else:
                self._advance(slots, chain)

    def _fill(self, slots: _Pool, waiting: _Pool, source: Iterator[Task]) -> tuple[_Pool, _Pool]:
        """Free slots taken by the longest of the images that wait, of which more are read as they become fewer."""
        free = self.num_slots - len(slots)
        if free <= 0:
            return slots, waiting
        while len(waiting) < free + LOOKAHEAD * self.num_slots:
            if (task := next(source, None)) is None:
                break
            waiting = waiting.join(self._entering(task))
        if not len(waiting):
            return slots, waiting
        longest_first = waiting.position.argsort(stable=True)
        return slots.join(waiting.take(longest_first[:free])), waiting.take(longest_first[free:])

    def _entering(self, task: Task) -> _Pool:
        keys = task.measurement.ids.tolist()
        spent = task.evaluations or [Counter[str]() for _ in keys]
        accounts = [
            _Account(randomness.generator(self.seed, "step", key), count.copy())
            for key, count in zip(keys, spent, strict=True)
        ]
        return _Pool(task.measurement, task.z, task.position.clone(), accounts)

    def _finished(self, pool: _Pool) -> Finished:
        accounts = pool.accounts
        return Finished(
            ids=pool.measurement.ids,
            z0=pool.z.detach(),
            evaluations=[account.evaluations for account in accounts],
            seconds=[account.seconds for account in accounts],
            diverged=[account.diverged for account in accounts],
        )

    def _advance(self, pool: _Pool, chain: Chain) -> None:
        """One reverse step of every image."""
        started = time_on(pool.z.device)
        accounts = pool.accounts
        z, position = pool.z, pool.position
        generators = [account.generator for account in accounts]
        noise = noise_for(z, generators) if self.sampler.eta else torch.zeros_like(z)
        step = Step(
            z=z,
            position=position,
            chain=chain,
            noise=noise,
            measurement=pool.measurement,
            networks=self.networks.charging([account.evaluations for account in accounts]),
            sampler=self.sampler,
            solver_noise=noise_for(z, generators) if self.solver.draws_noise else None,
        )
        advanced = self._in_parts(step)
        share = (time_on(z.device) - started) / len(pool)
        for account in accounts:
            account.seconds += share
        # written so that a latent that is not finite fails it too
        sound = (advanced.flatten(1).square().mean(1).sqrt() <= LARGEST_RMS).cpu()
        if not bool(sound.all()):
            for i in (~sound).nonzero().flatten().tolist():
                accounts[i].diverged = True
            advanced = torch.where(sound.to(z.device).reshape(-1, 1, 1, 1), advanced, z)
        pool.z, pool.position = advanced, torch.where(sound, position + 1, len(chain))

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
