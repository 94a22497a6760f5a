"""The adapter for deepinv's physics.

deepinv's physics store the parameters that they were last called with, so a physics object shared between batches fails
(or, worse, broadcasts) on the next batch. Here, each call gets its own object with exactly the parameters of its
images, on their device and in their precision. Building one takes 0.1 to 0.3 ms, and leaves no state for other calls or
threads.
"""

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from deepinv.physics import Haze, LinearPhysics, Tomography


def blur(filters: Tensor, images: Tensor) -> "LinearPhysics":
    """Convolution of each image with its own filter, at the images' size.

    Borders repeat the edge pixel, because reflection fails on images smaller than half a filter.

    Args:
        filters: (batch, 1, k, k) with k odd, centred on the middle pixel and shared by the channels.
        images: the images that the physics will be applied to; sets device and precision.
    """
    from deepinv.physics import Blur

    return Blur(filter=filters.to(images), padding="replicate", device=images.device)


def inpainting(mask: Tensor, images: Tensor) -> "LinearPhysics":
    """Multiplication of each image by its own mask.

    Args:
        mask: (batch, 1, height, width), 1 where a pixel is kept and 0 where it is dropped.
        images: the images that the physics will be applied to; sets device and precision.
    """
    from deepinv.physics import Inpainting

    return Inpainting(img_size=tuple(images.shape[1:]), mask=mask.to(images), device=images.device)


def mri(mask: Tensor, coil_maps: Tensor, images: Tensor) -> "LinearPhysics":
    """Multi-coil Cartesian MRI of complex images, (batch, 2, height, width) -> (batch, 2, coils, height, width).

    Args:
        mask: (batch, 1, height, width), 1 where k-space is measured.
        coil_maps: (batch, coils, height, width), complex.
        images: what it will be applied to; sets device and precision.
    """
    from deepinv.physics import MultiCoilMRI

    size = tuple(images.shape[-2:])
    mask = mask.to(images).expand(-1, 2, -1, -1)
    return MultiCoilMRI(mask=mask, coil_maps=coil_maps, img_size=size, device=images.device)


def tomography(side: int, num_views: int, images: Tensor) -> "Tomography":
    """Line integrals of square images along parallel rays, (batch, channel, detector, view).

    Args:
        side: pixels a side of the images.
        num_views: directions at equal angles on [0, 180) degrees.
        images: what it will be applied to; sets device and precision.
    """
    return _tomography(side, num_views, images.device, images.dtype)


@lru_cache(maxsize=8)  # has no parameters of images, and building it takes as long as many calls
def _tomography(side: int, num_views: int, device: torch.device, dtype: torch.dtype) -> "Tomography":
    from deepinv.physics import Tomography

    return Tomography(num_views, side, circle=False, normalize=False, device=device, dtype=dtype)


def num_detectors(side: int) -> int:
    """Rays of a view that cover a square image in every direction."""
    return math.ceil(math.sqrt(2) * side)


def identity(images: Tensor) -> "LinearPhysics":
    """The identity: the operator of denoising.

    Args:
        images: the images that the physics will be applied to; sets the device.
    """
    from deepinv.physics import Denoising

    return Denoising(device=images.device)


def haze(thickness: Tensor, images: Tensor) -> "Haze":
    """Light from the scene attenuated by exp(-thickness * depth) and replaced by the airlight.

    Its `A` takes the list [images, depth, airlight], each with images along the first axis.

    Args:
        thickness: (batch, 1, 1, 1), optical thickness at depth 1.
        images: the images that the physics will be applied to; sets device and precision.
    """
    from deepinv.physics import Haze

    return Haze(beta=thickness.to(images))
