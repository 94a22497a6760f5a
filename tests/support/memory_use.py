"""Work for a process of its own, which must be able to import it."""

import functools
import os

import torch

MEGABYTE = 2**20


def allocate(num_bytes: int) -> object:
    """Work that fills that much memory and lets go of it."""
    waste = torch.ones(64 * MEGABYTE, dtype=torch.uint8)  # before: it must not count
    del waste
    return functools.partial(torch.ones, num_bytes, dtype=torch.uint8)


def fail() -> object:
    """Work that the system kills."""
    os.kill(os.getpid(), 9)
    return None
