"""The cost of a network per image, from its recipe alone: estimates the remaining time before there are weights."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from workbench.autoencoders import AnyAutoencoder, Pretrained, Tiny
from workbench.core.flop_counter import flop_counter
from workbench.diffusion import PriorRecipe, PriorSource, UNetRecipe

Shape = tuple[int, int, int]
"""(channel, height, width)."""

PER_WEIGHT = 0.25
"""FLOPs per pixel (of the network's input) and weight, for networks known only by their files; Stable Diffusion's VAE
and
U-Net have 0.2. A weight takes two to four bytes. This guess is within a factor of two or three."""
DEFAULT_SHAPE: Shape = (1, 32, 32)
"""Shape of the images that nominal rates are for; their autoencoder and prior are the default ones."""
OTHER_SHARE = 0.3
"""Fraction of a default image's time spent outside networks: on data, operators and metrics."""
SMALL = 64
"""Pixels per side for running networks that cannot be counted without running them."""


def image_cost(recipe: AnyAutoencoder, given: Path | None, image_shape: Shape) -> float:
    """The cost of measuring, encoding and decoding an image, relative to a default image.

    Args:
        given: the folder of given weights, possibly of another architecture.
    """
    networks = coder_flops(recipe, given, image_shape) / coder_flops(Tiny(), None, DEFAULT_SHAPE)
    return OTHER_SHARE * values(image_shape) / values(DEFAULT_SHAPE) + (1 - OTHER_SHARE) * networks


def values(image_shape: Shape) -> int:
    """Number of values of an image."""
    return image_shape[0] * _pixels(image_shape)


@functools.lru_cache(maxsize=256)
def coder_flops(recipe: AnyAutoencoder, given: Path | None, image_shape: Shape) -> float:
    """FLOPs of encoding and decoding an image. Raises UserError if the architecture does not accept it."""
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
def prior_flops(recipe: PriorSource, given: Path | None, latent_shape: Shape) -> float:
    """FLOPs of one evaluation of the prior on one latent."""
    if given is not None:
        return sum(_by_files(part, latent_shape) for part in recipe.network_parts(given))
    assert isinstance(recipe, PriorRecipe)

    def calls(shape: Shape) -> tuple[Any, ...]:
        prior = recipe.build(shape).eval()
        z, time = torch.zeros(1, *shape), torch.zeros(1)
        return (lambda: prior.answer(z, time),)

    return _counted(calls, latent_shape)


def default_prior_flops() -> float:
    """FLOPs of the default prior on a latent of a default image."""
    return prior_flops(UNetRecipe(), None, (8, 8, 8))


def _counted(calls: Callable[[Shape], tuple[Any, ...]], shape: Shape) -> float:
    """Counted by torch, without weights and computation if possible; else on a small image, and scaled."""
    small = (shape[0], min(shape[1], SMALL), min(shape[2], SMALL))
    try:
        return _count(calls, shape, "meta")
    except (NotImplementedError, RuntimeError):  # a layer without a meta kernel; real errors occur again here
        return _count(calls, small, "cpu") * _pixels(shape) / _pixels(small)


def _count(calls: Callable[[Shape], tuple[Any, ...]], shape: Shape, device: str) -> float:
    with torch.random.fork_rng(devices=[]), torch.device(device), torch.no_grad():
        pieces = calls(shape)
        with flop_counter() as counter:
            for call in pieces:
                call()
    return float(counter.get_total_flops())


def _by_files(folder: Path, shape: Shape) -> float:
    num_bytes = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    return PER_WEIGHT * num_bytes / 4 * _pixels(shape)


def _pixels(shape: Shape) -> int:
    return shape[1] * shape[2]
