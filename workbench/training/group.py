"""Where Lightning trains: on one device, or as one of several processes that share every batch (DDP)."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

from workbench.core.ranks import Rank


class Group(ClusterEnvironment):
    """Processes that were started elsewhere and know their ranks.

    Args:
        rank: of this process.
    """

    def __init__(self, rank: Rank) -> None:
        super().__init__()
        self.rank = rank

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self.rank.address

    @property
    def main_port(self) -> int:
        return self.rank.port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.rank.size

    def set_world_size(self, size: int) -> None:
        """It is known."""

    def global_rank(self) -> int:
        return self.rank.number

    def set_global_rank(self, rank: int) -> None:
        """It is known."""

    def local_rank(self) -> int:
        return self.rank.number % self.rank.num_local

    def node_rank(self) -> int:
        return self.rank.number // self.rank.num_local


def placement(device: str, rank: Rank | None) -> dict[str, Any]:
    """The arguments of Lightning's Trainer."""
    from lightning.pytorch.strategies import DDPStrategy

    on_gpu = device.startswith("cuda")
    accelerator = "gpu" if on_gpu else "cpu"
    if rank is None:
        return {"accelerator": accelerator, "devices": [_gpu_number(device)] if on_gpu else 1}
    strategy = DDPStrategy(
        cluster_environment=Group(rank),
        process_group_backend="nccl" if on_gpu else "gloo",
        broadcast_buffers=False,  # no layer changes them in training
    )
    here = [_gpu_number(each) for each in rank.devices] if on_gpu else rank.num_local
    devices = {"devices": here, "num_nodes": rank.num_nodes}
    return {"accelerator": accelerator, **devices, "strategy": strategy, "use_distributed_sampler": False}


@contextmanager
def disbanded() -> Iterator[None]:
    """End a process group that is formed in this context; Lightning leaves it to the end of the process."""
    from torch import distributed

    hook = sys.excepthook  # torch's own puts the rank before every line
    try:
        yield
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
        sys.excepthook = hook


def _gpu_number(device: str) -> int:
    """1 of "cuda:1"; 0 of "cuda"."""
    return int(device.partition(":")[2] or 0)
