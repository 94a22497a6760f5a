"""Memory of a restoration, predicted before its first step: measured on small images, and scaled to their pixels."""

from collections.abc import Callable
from dataclasses import replace
from math import ceil

import torch
from torch import Tensor

from workbench.core.config import UserError
from workbench.degradations import GaussianNoise
from workbench.restoration.device_memory import StepMemory, free_memory, peak, size_text
from workbench.restoration.restorer import Restorer
from workbench.solvers.base import Networks, middle_step

LEAST_SIDE = 64
"""Pixels a side of the smaller of the two images that are measured, or more if the networks need it."""
SHARE = 0.9
"""The part of the free memory that steps may take."""
SMALL_IMAGE, SMALL_BATCH, SMALL_MODEL = 2**16, 2**18, 2**25
"""Pixels of an image and of all images at once, and weights of a model, up to which memory is not predicted."""


def step_memory(restorer: Restorer) -> StepMemory:
    """Of one step, with no operator but noise: those of images need little beside networks."""
    return _known(restorer, "step", _step)


def decoding_memory(restorer: Restorer) -> StepMemory:
    """Of decoding without a gradient."""
    return _known(restorer, "decoding", _decoding)


def _known(restorer: Restorer, what: str, work: Callable[[Restorer, int], Callable[[], object]]) -> StepMemory:
    """Measured once for a restorer and its copies with the same solver."""
    key = (what, restorer.solver, restorer.precision, restorer.checkpointing)
    if key not in restorer.measured:
        restorer.measured[key] = _measured(restorer, work)
    return restorer.measured[key]


def _measured(restorer: Restorer, work: Callable[[Restorer, int], Callable[[], object]]) -> StepMemory:
    """Of some work on one image, measured at two sizes.

    Args:
        work: (restorer, side of the image in pixels) -> the work.
    """
    base = restorer.autoencoder.downscale * restorer.prior.multiple
    side = base * ceil(LEAST_SIDE / base)
    small, large = side**2, (2 * side) ** 2
    work(restorer, side)()  # what is only allocated at the first call is no part of a step
    first = peak(work(restorer, side), _device(restorer))
    if not _accepts(restorer, 2 * side):  # some transformers have positions up to some size only
        return StepMemory(0.0, first / small)
    second = peak(work(restorer, 2 * side), _device(restorer))
    per_pixel = max(0.0, (second - first) / (large - small))
    return StepMemory(max(0.0, first - per_pixel * small), per_pixel)


def fitted(restorer: Restorer, image_shape: tuple[int, int, int]) -> Restorer:
    """The restorer for images of this shape, with as many at once as fit into the free memory.

    If not even one does, its steps keep fewer activations and compute them again.

    Raises:
        UserError: if one image does not fit even then; the message has the remedy.
    """
    sized = restorer.for_images(image_shape)
    num_pixels = image_shape[1] * image_shape[2]
    num_weights = sum(p.numel() for network in (restorer.prior, restorer.autoencoder) for p in network.parameters())
    free = free_memory(_device(restorer))
    small = num_pixels <= SMALL_IMAGE and num_pixels * sized.num_slots <= SMALL_BATCH and num_weights <= SMALL_MODEL
    if free is None or small:
        return sized
    most = sized.num_slots
    if not sized.solver.guided:  # else decoding without a gradient takes less than a step
        decoding = decoding_memory(restorer)
        sized = _decoding_in_tiles(sized, decoding.of(num_pixels), free, image_shape)
        most = max(1, min(most, decoding.fitting(SHARE * free, num_pixels)))
    needed = 0.0
    for checkpointing in (False, True):
        # the FLOPs of its networks are others then
        counted = {} if checkpointing else sized.counted
        chosen = replace(sized, checkpointing=checkpointing, counted=counted)
        memory = step_memory(replace(restorer, checkpointing=checkpointing))
        needed = memory.of(num_pixels)
        if needed <= SHARE * free:
            if checkpointing:
                restorer.say(
                    f"a step of one {image_shape[1]} x {image_shape[2]} image needs more than the free memory "
                    f"({size_text(free)}): activations are computed again instead of kept"
                )
            at_once = max(1, memory.fitting(SHARE * free, num_pixels))
            return replace(chosen, num_slots=min(most, at_once))
    raise UserError(
        f"a step of one {image_shape[1]} x {image_shape[2]} image needs about {size_text(needed)} of memory, and "
        f"{size_text(free)} are free: restore smaller images or parts of them, or use another device"
    )


def _decoding_in_tiles(restorer: Restorer, needed: float, free: float, image_shape: tuple[int, int, int]) -> Restorer:
    """The restorer, which decodes in tiles if one image needs more than the free memory.

    Raises:
        UserError: if its autoencoder cannot.
    """
    if needed <= SHARE * free:
        return restorer
    size = f"{image_shape[1]} x {image_shape[2]}"
    if not restorer.autoencoder.tiles:
        raise UserError(
            f"decoding one {size} image needs about {size_text(needed)} of memory, and {size_text(free)} are free: "
            "restore smaller images or parts of them, or use another device"
        )
    restorer.say(f"decoding one {size} image needs more than the free memory ({size_text(free)}): decoding in tiles")
    return replace(restorer, in_tiles=True, counted={})


def _accepts(restorer: Restorer, side: int) -> bool:
    """Whether the prior takes latents of an image of this side."""
    try:
        restorer.prior.check_latents(
            restorer.autoencoder.latent_shape((restorer.autoencoder.image_channels, side, side))
        )
    except UserError:
        return False
    return True


def _device(restorer: Restorer) -> torch.device:
    return next(restorer.autoencoder.parameters()).device


def _step(restorer: Restorer, side: int) -> Callable[[], object]:
    """One step of one image of this side."""
    device = _device(restorer)
    operator = GaussianNoise()
    ids = torch.zeros(1, dtype=torch.int64)
    x = torch.full((1, restorer.autoencoder.image_channels, side, side), 0.5)
    measurement = operator.measure(x, torch.full((1,), 0.5), ids, 0).to(device)
    networks = Networks(
        restorer.autoencoder,
        restorer.prior,
        operator,
        precision=restorer.precision,
        checkpointing=restorer.checkpointing,
    )
    z = torch.zeros(1, *restorer.autoencoder.latent_shape((x.shape[1], side, side)), device=device)
    step = middle_step(z, measurement, networks, restorer.sampler)
    return lambda: restorer.solver.step(step)


def _decoding(restorer: Restorer, side: int) -> Callable[[], object]:
    """Decoding one image of this side."""
    shape = restorer.autoencoder.latent_shape((restorer.autoencoder.image_channels, side, side))
    z = torch.zeros(1, *shape, device=_device(restorer))
    return lambda: _without_gradient(restorer.autoencoder.decode, z)


@torch.no_grad()
def _without_gradient(network: Callable[[Tensor], Tensor], argument: Tensor) -> Tensor:
    return network(argument)
