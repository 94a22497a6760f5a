"""Phase retrieval: the magnitudes of an oversampled Fourier transform, as in coherent diffraction imaging."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.tensors import Ids, Images, Measurements, Scalars, Severities
from workbench.degradations.base import Degradation, Params
from workbench.degradations.given import check_values, refuse

GROWTH = 10.0
"""The noise at severity 1, as a multiple of that at severity 0."""
FEEDBACK = 0.9
"""Of hybrid input-output; Fienup, Applied Optics 21, 1982, recommends 0.5 to 1."""
LAST = 1 / 3
"""Error-reduction steps after hybrid input-output, as a part of its number."""
TINY = 1e-12
"""Magnitude in place of 0, which has no phase."""
NEGATIVE = -0.5
"""Mean of given magnitudes, in standard deviations, below which they cannot be magnitudes with noise."""


class PhaseRetrieval(Degradation):
    """The phase of the Fourier transform is lost: y = |F P x| + noise, for each channel.

    P continues the image by zeros to `oversampling` times its sides, and F is the orthonormal Fourier transform. At 2,
    y holds the whole autocorrelation of x, and with it all that magnitudes tell: more only measures the same again.
    Severity is therefore the noise. White Gaussian noise is added to the magnitudes, whose std is `noise_std` at
    severity 0 and ten times that at severity 1, growing by the same factor for every step of severity. Severity 0
    has the noise of DAPS (arXiv 2407.01521); its code, as that of DPS (arXiv 2209.14687), continues the image by a
    quarter of its side on each of them, to 1.5 times, which is less than y here.

    The image turned by 180 degrees measures the same, so no restoration can tell the two (`equivalents`).

    The encoder reads an image that explains y: hybrid input-output, then error reduction (Fienup, Applied Optics 21,
    1982), with the support and the range [0, 1] of the image, from `starts` random images, the same for every
    measurement; the result with the smallest residual is kept. It is a function of y alone, but of each of its digits:
    the steps are chaotic. Images are therefore computed one by one, on the CPU: in 12 ms for 32 x 32 pixels. Other
    channels are turned to agree with the first.
    """

    kind: Literal["phase_retrieval"] = "phase_retrieval"
    noise_std: float = Field(0.05, ge=0, le=1, description="standard deviation of the noise at severity 0")
    oversampling: int = Field(2, ge=2, le=8, description="sides of the zero-padded image, in those of the image")
    iterations: int = Field(30, ge=1, le=10_000, description="steps of hybrid input-output of the encoder's view")
    starts: int = Field(1, ge=1, le=100, description="random starts of the encoder's view; the best result is kept")

    linear: ClassVar[bool] = False
    measures_images: ClassVar[bool] = False
    identity_db: ClassVar[float] = 4.0
    severity_range: ClassVar[str] = "std of the noise of magnitudes noise_std -> 10 noise_std, geometric"

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """Empty: the operator is the same for all images."""
        return {}

    def A(self, x: Images, params: Params) -> Measurements:
        """Magnitudes, (batch, channel, oversampling height, oversampling width); the gradient of |0| is 0."""
        sides = [self.oversampling * side for side in x.shape[2:]]
        return torch.fft.fft2(x, s=sides, norm="ortho").abs()

    def before_noise(self, x: Images, ids: Ids, seed: int, params: Params) -> Measurements:
        """A(x), image by image: in a batch, rounding depends on the others, and the view depends on rounding."""
        return torch.cat([self.A(x[i : i + 1], params) for i in range(len(x))])

    def view(self, y: Measurements, params: Params) -> Images:
        """An image on [0, 1] that explains y."""
        sides = (y.shape[2], y.shape[3])
        support = (sides[0] // self.oversampling, sides[1] // self.oversampling)
        images = _half_plane(y).cpu().unbind(0)
        found = [hybrid_input_output(image, support, sides, self.iterations, self.starts) for image in images]
        return _turned_like_the_first(torch.stack(found)).to(y)

    def equivalents(self, x: Images) -> list[Images]:
        """The image turned by 180 degrees."""
        return [x.flip(2, 3)]

    def noise_level(self, severity: Severities, params: Params | None = None) -> Scalars:
        """That of the magnitudes, growing with the severity."""
        return self.noise_std * GROWTH**severity

    def image_shape(self, y: Tensor) -> tuple[int, int, int]:
        """Of (batch, channel, oversampling height, oversampling width); the channel may be left out."""
        times = self.oversampling
        if y.ndim not in (3, 4) or y.is_complex() or any(side % times or not side for side in y.shape[-2:]):
            raise UserError(
                f"y of phase_retrieval has shape {tuple(y.shape)} and type {y.dtype}, expected real magnitudes: "
                f"N x channels x {times} height x {times} width (for other sides, set degradation.oversampling)"
            )
        return 1 if y.ndim == 3 else y.shape[1], y.shape[-2] // times, y.shape[-1] // times

    def given_values(self, y: Measurements, params: Params, observed: Tensor | None) -> tuple[Measurements, list[str]]:
        """Magnitudes, with the zero frequency first, as `torch.fft.fft2` has it."""
        y = y[:, None] if y.ndim == 3 else y
        self.image_shape(y)
        # the zero frequency of a white image
        check_values(y * self.oversampling**2 / math.sqrt(y.shape[2:].numel()))
        check_magnitudes(y)
        return y, []

    def describe(self, severity: float) -> str:
        """The standard deviation of the noise."""
        return f"noise std {self.noise_std * GROWTH**severity:.3f} of magnitudes"


def check_magnitudes(y: Measurements) -> None:
    """Refuse what cannot be magnitudes with their zero frequency first, where that of an image on [0, 1] is largest.

    Raises:
        ImagesError: with the images concerned, and the remedy.
    """
    is_negative = y.mean((1, 2, 3)) < NEGATIVE * y.std((1, 2, 3))
    refuse(is_negative, "y of phase_retrieval is negative on average: give magnitudes |F P x|, not their logarithm")
    middle = y.shape[2] // 2 * y.shape[3] + y.shape[3] // 2
    refuse(
        (y.abs().flatten(2).argmax(2) == middle).all(1),
        "y of phase_retrieval has its zero frequency in the middle: give it first, by numpy.fft.ifftshift over the "
        "last two axes",
    )


@torch.no_grad()
def hybrid_input_output(
    magnitudes: Tensor, support: tuple[int, int], sides: tuple[int, int], iterations: int, starts: int
) -> Tensor:
    """An image on [0, 1] whose Fourier transform has these magnitudes, per channel (Fienup 1982, equation 44).

    Args:
        magnitudes: of the half plane that a real image has, (channel, sides[0], sides[1] // 2 + 1).
        support: height and width of the image, in the first corner of the padded one.
        sides: height and width of the padded image.
        iterations: steps from each start; a third as many with error reduction follow.
        starts: number of random starts.
    """
    height, width = support
    generator = torch.Generator().manual_seed(0)
    best = magnitudes.new_zeros(magnitudes.shape[0], height, width)
    least = magnitudes.new_full((len(best), 1, 1), math.inf)
    for _ in range(starts):
        x = magnitudes.new_zeros(len(best), *sides)
        x[:, :height, :width] = torch.rand(height, width, generator=generator).to(x)
        for step in range(iterations + math.ceil(LAST * iterations)):
            transform = torch.fft.rfft2(x, norm="ortho")
            explained = torch.fft.irfft2(
                transform * (magnitudes / transform.abs().clamp(min=TINY)), sides, norm="ortho"
            )
            inside = explained[:, :height, :width]
            if step < iterations:
                is_allowed = (inside >= 0) & (inside <= 1)
                x = x - FEEDBACK * explained
                x[:, :height, :width] = torch.where(is_allowed, inside, x[:, :height, :width])
            else:
                x = torch.zeros_like(x)
                x[:, :height, :width] = inside.clamp(0, 1)
        residual = (torch.fft.rfft2(x, norm="ortho").abs() - magnitudes).square().mean((1, 2), keepdim=True)
        best = torch.where(residual < least, x[:, :height, :width], best)
        least = torch.minimum(residual, least)
    return best


def _half_plane(y: Measurements) -> Tensor:
    """The magnitudes of frequencies that a real image does not repeat: the mean of both measurements of each."""
    opposite = y.flip(2, 3).roll((1, 1), (2, 3))
    return ((y + opposite) / 2)[..., : y.shape[3] // 2 + 1].clamp(min=0)


def _turned_like_the_first(x: Images) -> Images:
    """Each channel, turned by 180 degrees where that resembles the first channel more."""
    centred = x - x.mean((2, 3), keepdim=True)
    first, turned = centred[:, :1], centred.flip(2, 3)
    is_turned = (turned * first).sum((2, 3), keepdim=True) > (centred * first).sum((2, 3), keepdim=True)
    is_turned[:, 0] = False
    return torch.where(is_turned, x.flip(2, 3), x)
