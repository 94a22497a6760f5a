"""Lossy compression."""

import io
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from workbench.core.tensors import Ids, Images, Measurements, Severities
from workbench.degradations.base import Degradation, Params
from workbench.degradations.given import Given

MAX_QUALITY, MIN_QUALITY = 95, 5  # libjpeg's scale, at severity 0 and 1


class JPEG(Degradation):
    """The image saved as a JPEG file of quality 95 (severity 0) to 5 (severity 1) and read back; nonlinear.

    libjpeg writes and reads the file (through Pillow), in greyscale or with its default 4:2:0 chroma subsampling.
    Rounding has no useful gradient; it is replaced by that of kornia's differentiable JPEG (Reich et al.,
    "Differentiable JPEG: The Devil is in the Details", arXiv 2309.06978). Noise is added to the decoded image;
    with `noise_std=0` there is none.
    """

    kind: Literal["jpeg"] = "jpeg"

    linear: ClassVar[bool] = False
    identity_db: ClassVar[float] = 20.0
    surrogate_gradient: ClassVar[bool] = True
    severity_range: ClassVar[str] = "quality of the JPEG file 95 -> 5, linear, whole numbers"

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """`quality` (batch,), whole numbers on libjpeg's scale."""
        return {"quality": (MAX_QUALITY + (MIN_QUALITY - MAX_QUALITY) * severity).round()}

    def A(self, x: Images, params: Params) -> Measurements:
        """The decoded images.

        Raises:
            ValueError: for images without 1 or 3 channels.
        """
        if x.shape[1] not in (1, 3):
            raise ValueError(f"JPEG files have 1 or 3 channels, but the images have {x.shape[1]}")
        result: Tensor = _FileWithGradient.apply(x, params["quality"])
        return result

    def given_parameters(self, params: Params, image_shape: tuple[int, int, int]) -> tuple[Params, list[str]]:
        """Integer qualities on libjpeg's scale."""
        given = Given(self.kind, params, ("quality",), image_shape)
        return given.taken({"quality": given.numbers("quality", low=1, high=100, whole=True)})

    def describe(self, severity: float) -> str:
        """The quality."""
        return f"quality {MAX_QUALITY + (MIN_QUALITY - MAX_QUALITY) * severity:.0f}"


class _FileWithGradient(torch.autograd.Function):
    """The real file in the forward pass, the differentiable codec in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, quality: Tensor) -> Tensor:
        ctx.save_for_backward(x, quality)
        return through_file(x, quality)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        x, quality = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(differentiable_jpeg(x, quality), x, gradients[0])
        return gradient, None


def through_file(x: Images, quality: Tensor) -> Images:
    """Write each image as a JPEG file of its quality and read it back; clipped to [0, 1] and rounded to 8 bits."""
    import numpy as np
    from PIL import Image

    pixels = (x.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    read = np.empty_like(pixels)
    for i, (image, level) in enumerate(zip(pixels, quality.tolist(), strict=True)):
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "JPEG", quality=int(level))
        read[i] = np.asarray(Image.open(file)).reshape(image.shape)
    return torch.from_numpy(read).permute(0, 3, 1, 2).to(x) / 255


def differentiable_jpeg(x: Images, quality: Tensor) -> Images:
    """kornia's differentiable JPEG of the same quality; greyscale images are the luminance of colourless ones."""
    from kornia.enhance import jpeg_codec_differentiable

    colour = jpeg_codec_differentiable(x.expand(-1, 3, -1, -1).contiguous(), quality.to(x))
    return colour if x.shape[1] == 3 else colour.mean(1, keepdim=True)
