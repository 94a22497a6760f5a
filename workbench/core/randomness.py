"""Randomness by key: every draw comes from a generator named by what it is for, never from a global state.

A draw keyed by (seed, image id, purpose) is the same whatever the batch, the order or the process.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from workbench.core.tensors import Ids

Key = int | str


def seed_of(*key: Key) -> int:
    """A seed of 63 bits that `key` names."""
    name = "\x1f".join(map(str, key)).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little") >> 1


def generator(*key: Key) -> torch.Generator:
    """A CPU generator seeded by `key`."""
    return torch.Generator().manual_seed(seed_of(*key))


def per_image(ids: Ids, key: tuple[Key, ...], draw: Callable[[torch.Generator], Tensor]) -> Tensor:
    """Stack `draw(generator)` over the images, each from its own generator keyed by (*key, id)."""
    return torch.stack([draw(generator(*key, image_id)) for image_id in ids.tolist()]).to(ids.device)


def normal(ids: Ids, key: tuple[Key, ...], shape: tuple[int, ...]) -> Tensor:
    """Standard normal draws of `shape` for each image: (batch, *shape)."""
    return per_image(ids, key, lambda g: torch.randn(shape, generator=g))


def uniform(ids: Ids, key: tuple[Key, ...], shape: tuple[int, ...] = ()) -> Tensor:
    """Uniform draws on [0, 1) of `shape` for each image: (batch, *shape)."""
    return per_image(ids, key, lambda g: torch.rand(shape, generator=g))
