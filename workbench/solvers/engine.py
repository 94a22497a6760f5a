"""The slot engine: full batches although every image has its own start.

A pool of slots holds images at different timesteps. A slot whose image is finished takes the next one, as language
models batch continuously; the cost of a data set is the sum of its images' steps, not images times the worst case.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench import randomness
from workbench.diffusion import DDIM
from workbench.diffusion.sampler import noise_for
from workbench.measurement import Measurement
from workbench.severity.start import timestep_at
from workbench.solvers.base import Networks, Solver, Step
from workbench.tensors import Ids, Latents

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
    """The images in slots or in the queue for them."""

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


class Engine:
    """Runs a solver over images that begin and end at different times.

    Every draw comes from a generator keyed by (seed, image id), so an image's result does not depend on the number of
    slots, the order or its neighbours beyond float rounding.

    Args:
        networks: the networks and the operator.
        solver: the rule of a step.
        sampler: the grid and the reverse step.
        seed: keys the noise.
        num_slots: images worked on at once.
    """

    def __init__(self, networks: Networks, solver: Solver, sampler: DDIM, seed: int, num_slots: int = 64) -> None:
        self.networks, self.solver, self.sampler = networks, solver, sampler
        self.seed, self.num_slots = seed, num_slots
        self.grid = sampler.grid(networks.prior.schedule)

    def run(self, tasks: Iterable[Task]) -> Iterator[Finished]:
        """Bring every image of every task to the clean end; images come out as they finish."""
        source = iter(tasks)
        pool = self._refill(None, source)
        while pool is not None:
            active = min(len(pool), self.num_slots)
            done = pool.position[:active] >= len(self.grid)
            if bool(done.any()):
                yield self._finished(pool.take(done.nonzero().flatten()))
                stay = torch.cat([~done, torch.ones(len(pool) - active, dtype=torch.bool)])
                pool = self._refill(pool.take(stay.nonzero().flatten()) if bool(stay.any()) else None, source)
            else:
                self._advance(pool, active)

    def _refill(self, pool: _Pool | None, source: Iterator[Task]) -> _Pool | None:
        """At least `num_slots` images while there are any; those beyond wait at the end of the pool."""
        while pool is None or len(pool) < self.num_slots:
            if (task := next(source, None)) is None:
                break
            keys = task.measurement.ids.tolist()
            spent = task.evaluations or [Counter[str]() for _ in keys]
            accounts = [
                _Account(randomness.generator(self.seed, "step", key), count.copy())
                for key, count in zip(keys, spent, strict=True)
            ]
            entering = _Pool(task.measurement, task.z, task.position.clone(), accounts)
            pool = entering if pool is None else pool.join(entering)
        return pool

    def _finished(self, pool: _Pool) -> Finished:
        accounts = pool.accounts
        return Finished(
            ids=pool.measurement.ids,
            z0=pool.z.detach(),
            evaluations=[account.evaluations for account in accounts],
            seconds=[account.seconds for account in accounts],
            diverged=[account.diverged for account in accounts],
        )

    def _advance(self, pool: _Pool, active: int) -> None:
        """One reverse step of the first `active` images."""
        started = time.perf_counter()
        accounts = pool.accounts[:active]
        z, position = pool.z[:active], pool.position[:active]
        generators = [account.generator for account in accounts]
        noise = noise_for(z, generators) if self.sampler.eta else torch.zeros_like(z)
        step = Step(
            z=z,
            position=position,
            timestep=timestep_at(self.grid, position).to(z.device),
            timestep_next=timestep_at(self.grid, position + 1).to(z.device),
            noise=noise,
            measurement=pool.measurement.take(slice(0, active)),
            networks=self.networks.charging([account.evaluations for account in accounts]),
            sampler=self.sampler,
            solver_noise=noise_for(z, generators) if self.solver.draws_noise else None,
        )
        advanced = self.solver.step(step)
        if z.is_cuda:
            torch.cuda.synchronize()
        share = (time.perf_counter() - started) / active
        for account in accounts:
            account.seconds += share
        # written so that a latent that is not finite fails it too
        sound = (advanced.flatten(1).square().mean(1).sqrt() <= LARGEST_RMS).cpu()
        if not bool(sound.all()):
            for i in (~sound).nonzero().flatten().tolist():
                accounts[i].diverged = True
            advanced = torch.where(sound.to(z.device).reshape(-1, 1, 1, 1), advanced, z)
        position = torch.where(sound, position + 1, len(self.grid))
        pool.z = torch.cat([advanced, pool.z[active:]])
        pool.position = torch.cat([position, pool.position[active:]])
