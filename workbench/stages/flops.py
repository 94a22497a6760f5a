"""What a network costs an image, from its recipe alone: for estimates of what is left, before there are weights."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from workbench.autoencoders import AnyAutoencoder, Pretrained, Tiny
from workbench.diffusion import PriorRecipe, UNetRecipe

Shape = tuple[int, int, int]
"""(channel, height, width)."""

PER_WEIGHT = 0.25
"""FLOPs a pixel (of what the network takes) and weight, of networks that are known by their files: those of Stable
Diffusion's VAE and U-Net come to 0.2. A weight takes two to four bytes; a guess within a factor of two or three."""
DEFAULT_SHAPE: Shape = (1, 32, 32)
"""Of the images that nominal rates are for; their autoencoder and prior are the default ones."""
OTHER_SHARE = 0.3
"""The part of a default image's time that is spent outside networks: on data, operators and metrics."""
SMALL = 64
"""Pixels a side at which networks are tried that cannot be counted without being run."""


def image_cost(recipe: AnyAutoencoder, given: Path | None, image_shape: Shape) -> float:
    """What an image costs that is measured, encoded and decoded, as a multiple of what a default one does.

    Args:
        given: the folder of given weights, of another architecture perhaps.
    """
    networks = coder_flops(recipe, given, image_shape) / coder_flops(Tiny(), None, DEFAULT_SHAPE)
    return OTHER_SHARE * values(image_shape) / values(DEFAULT_SHAPE) + (1 - OTHER_SHARE) * networks


def values(image_shape: Shape) -> int:
    """Values of an image."""
    return image_shape[0] * _pixels(image_shape)


@functools.lru_cache(maxsize=256)
def coder_flops(recipe: AnyAutoencoder, given: Path | None, image_shape: Shape) -> float:
    """FLOPs of encoding and decoding an image. Raises UserError for an architecture that cannot take it."""
    if given is None and isinstance(recipe, Pretrained):
        given = recipe.folder()
    if given is not None:
        return _by_files(given, image_shape)

    def calls(shape: Shape) -> tuple[Any, ...]:
        autoencoder = recipe.build(shape[0]).eval()
        x, z = torch.zeros(1, *shape), torch.zeros(1, *autoencoder.latent_shape(shape))
        return (lambda: autoencoder.encode(x)), (lambda: autoencoder.decode(z))

    return _counted(calls, image_shape)


@functools.lru_cache(maxsize=256)
def prior_flops(recipe: PriorRecipe, given: Path | None, latent_shape: Shape) -> float:
    """FLOPs of one evaluation of the prior on one latent."""
    if given is not None:
        return sum(_by_files(given / part, latent_shape) for part in recipe.parts)

    def calls(shape: Shape) -> tuple[Any, ...]:
        prior = recipe.build(shape).eval()
        z, time = torch.zeros(1, *shape), torch.zeros(1)
        return (lambda: prior.answer(z, time),)

    return _counted(calls, latent_shape)


def default_prior_flops() -> float:
    """The same, of the default prior on a latent of a default image."""
    return prior_flops(UNetRecipe(), None, (8, 8, 8))


def _counted(calls: Callable[[Shape], tuple[Any, ...]], shape: Shape) -> float:
    """By torch's counter: without weights and without computing, else on a small image, and in proportion."""
    small = (shape[0], min(shape[1], SMALL), min(shape[2], SMALL))
    try:
        return _count(calls, shape, "meta")
    except (NotImplementedError, RuntimeError):  # a layer without a meta kernel; what is wrong itself fails again here
        return _count(calls, small, "cpu") * _pixels(shape) / _pixels(small)


def _count(calls: Callable[[Shape], tuple[Any, ...]], shape: Shape, device: str) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.random.fork_rng(devices=[]), torch.device(device), torch.no_grad():
        pieces = calls(shape)
        with FlopCounterMode(display=False) as counter:
            for call in pieces:
                call()
    return float(counter.get_total_flops())


def _by_files(folder: Path, shape: Shape) -> float:
    num_bytes = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    return PER_WEIGHT * num_bytes / 4 * _pixels(shape)


def _pixels(shape: Shape) -> int:
    return shape[1] * shape[2]
