"""Keyed randomness: every draw comes from a generator seeded by its purpose, never from global state.

A draw keyed by (seed, image id, purpose) does not depend on the batch, the order or the process.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from workbench.core.tensors import Ids

Key = int | str


def seed_of(*key: Key) -> int:
    """A 63-bit seed derived from `key`."""
    name = "\x1f".join(map(str, key)).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little") >> 1


def generator(*key: Key) -> torch.Generator:
    """A CPU generator seeded by `key`."""
    return torch.Generator().manual_seed(seed_of(*key))


def per_image(ids: Ids, key: tuple[Key, ...], draw: Callable[[torch.Generator], Tensor]) -> Tensor:
    """Stack `draw(generator)` over the images, each with its own generator keyed by (*key, id)."""
    return torch.stack([draw(generator(*key, image_id)) for image_id in ids.tolist()]).to(ids.device)


def normal(ids: Ids, key: tuple[Key, ...], shape: tuple[int, ...]) -> Tensor:
    """Standard normal samples of `shape` for each image: (batch, *shape)."""
    return per_image(ids, key, lambda g: torch.randn(shape, generator=g))


def uniform(ids: Ids, key: tuple[Key, ...], shape: tuple[int, ...] = ()) -> Tensor:
    """Uniform samples on [0, 1) of `shape` for each image: (batch, *shape)."""
    return per_image(ids, key, lambda g: torch.rand(shape, generator=g))
