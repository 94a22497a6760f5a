"""Training on several devices: each process, a rank, has an equal part of every batch.

What is drawn and averaged here belongs to the whole batch, so the number of ranks does not change what is learned.
Without a process group, there is one rank.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torch import distributed as dist


@dataclass(frozen=True)
class Rank:
    """A process of a training on several devices.

    Attributes:
        number: its number; 0 keeps the result.
        size: number of ranks.
        port: of rank 0, where they meet.
        address: of rank 0's node.
        num_nodes: number of nodes, with equally many ranks on each.
        devices: those of the ranks on this node.
    """

    number: int
    size: int
    port: int
    address: str = "127.0.0.1"
    num_nodes: int = 1
    devices: tuple[str, ...] = ()

    @property
    def num_local(self) -> int:
        """Number of ranks on each node."""
        return self.size // self.num_nodes


@dataclass(frozen=True)
class Node:
    """A machine of those that train together.

    Attributes:
        number: its number; rank 0 is on node 0.
        of: number of nodes.
        address, port: where rank 0 waits for the others.
    """

    number: int
    of: int
    address: str
    port: int


def size() -> int:
    """Number of ranks."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process."""
    return dist.get_rank() if size() > 1 else 0


def own(whole: Tensor) -> Tensor:
    """This rank's rows of a whole batch."""
    return whole.chunk(size())[rank()]


def randn(shape: torch.Size, generator: Generator) -> Tensor:
    """Standard normal noise for this rank's images, (batch, ...): its rows of what is drawn for the whole batch."""
    return own(torch.randn((size() * shape[0], *shape[1:]), generator=generator))


def rand(shape: torch.Size, generator: Generator) -> Tensor:
    """The same, uniform on [0, 1)."""
    return own(torch.rand((size() * shape[0], *shape[1:]), generator=generator))


def randint(high: int, batch: int, generator: Generator) -> Tensor:
    """One number from 0 to high - 1 for each of this rank's images, (batch,)."""
    return own(torch.randint(high, (size() * batch,), generator=generator))


def channel_moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel over the whole batch, (channel,) each, with gradients.

    Args:
        values: this rank's part, (batch, channel, height, width).
    """
    axes = (0, 2, 3)
    if size() == 1:
        return values.mean(axes), values.var(axes)
    mean = _Sum.apply(values.mean(axes)) / size()
    square = _Sum.apply((values - mean[:, None, None]).square().mean(axes)) / size()
    number = size() * values[:, 0].numel()
    return mean, square * number / (number - 1)


class _Sum(torch.autograd.Function):
    """The sum over all ranks; its gradient is the sum of theirs.

    A loss that all ranks have is counted once by each of them, and DDP divides gradients by their number.
    """

    @staticmethod
    def forward(_: Any, part: Tensor) -> Tensor:
        total = part.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total
