"""Camera shake as recorded by a camera: blur in linear light, exposure, response curve, clipping."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from workbench.core import randomness
from workbench.core.tensors import Ids, Images, Measurements, Scalars, Severities
from workbench.degradations import physics
from workbench.degradations.base import Degradation, Params
from workbench.degradations.given import Given

MAX_EXTENT = 9.0  # pixels, at severity 1
MAX_GAIN = 1.3  # exposure at severity 1, in linear light
RADIUS = 9  # pixels: a path centred on its mean reaches at most its extent from there
NUM_POINTS = 96  # points per path: several per pixel at the largest extent
INERTIA = 0.95  # fraction of its velocity that the camera keeps from one point to the next


class MotionBlurCRF(Degradation):
    """A photograph taken with a shaking, slightly overexposed camera; nonlinear.

        y = clip(response(gain * (filter * response^-1(x))), 0, 1)

    with sRGB as the camera response curve (IEC 61966-2-1), so that light is averaged as on a sensor. The filter is the
    path of a camera that shakes like a random walk with inertia, as in Boracchi and Foi, "Modeling the Performance of
    Image Restoration from Motion Blur", IEEE TIP 2012, but without their impulses and pull to the centre. The longer
    side of the path's bounding box grows from 0 to 9 px, and the exposure gain grows from 1 to 1.3.
    """

    kind: Literal["motion_blur_crf"] = "motion_blur_crf"

    linear: ClassVar[bool] = False
    identity_db: ClassVar[float] = 80.0
    draws_parameters: ClassVar[bool] = True
    severity_range: ClassVar[str] = "extent of the camera's path 0 -> 9 px and exposure gain 1 -> 1.3, linear"

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """`filter` (batch, 1, 19, 19), summing to 1 with its centre of mass in the middle; `gain` (batch, 1, 1, 1).

        For a given image and seed, the path has the same shape at every severity and scales with it.
        """
        shake = randomness.normal(ids, (seed, "motion"), (NUM_POINTS, 2)).to(severity)
        extent = MAX_EXTENT * severity
        gain = 1 + (MAX_GAIN - 1) * severity
        return {"filter": rasterise(camera_path(shake, extent)), "gain": gain[:, None, None, None]}

    def A(self, x: Images, params: Params) -> Measurements:
        """The photograph; its gradient is zero where it is clipped."""
        light = to_linear_light(x)
        exposed = params["gain"].to(x) * physics.blur(params["filter"], light).A(light)
        return camera_response(exposed).clamp(0, 1)

    def given_parameters(self, params: Params, image_shape: tuple[int, int, int]) -> tuple[Params, list[str]]:
        """A kernel of any odd size, normalized to sum 1 because the gain sets the exposure; and the gain."""
        given = Given(self.kind, params, ("filter", "gain"), image_shape)
        gain = given.numbers("gain", 1, 1, 1, low=0.01, high=100, meaning="exposure in linear light, 1 for no change")
        return given.taken({"filter": given.kernel("filter"), "gain": gain})

    def describe(self, severity: float) -> str:
        """The extent of the path in pixels and the exposure gain."""
        return f"path {MAX_EXTENT * severity:.1f} px, exposure x{1 + (MAX_GAIN - 1) * severity:.2f}"


def camera_path(shake: Tensor, extent: Scalars) -> Tensor:
    """A random walk with inertia, (batch, points, 2) in pixels, centred on its mean.

    Args:
        shake: standard normal impulses, (batch, points, 2).
        extent: the longer side of the path's bounding box in pixels, per image.
    """
    steps = torch.arange(shake.shape[1], device=shake.device, dtype=shake.dtype)
    elapsed = steps[:, None] - steps
    # velocity_i = sum over j <= i of INERTIA^(i - j) push_j, and position is the running sum of velocity
    velocity = torch.where(elapsed >= 0, INERTIA ** elapsed.clamp(min=0), 0.0) @ shake
    path = velocity.cumsum(1)
    longer_side = (path.amax(1) - path.amin(1)).amax(1)
    path = path * (extent / longer_side)[:, None, None]
    return path - path.mean(1, keepdim=True)


def rasterise(path: Tensor) -> Tensor:
    """The filter of a path, (batch, 1, 19, 19): equal time at each point, distributed bilinearly among four pixels.

    Args:
        path: (batch, points, 2) in pixels from the filter's centre, within the filter's radius.
    """
    size = 2 * RADIUS + 1
    place = (path + RADIUS).clamp(0, 2 * RADIUS)
    corner = place.floor().clamp(max=2 * RADIUS - 1)
    share = place - corner
    index = (corner[..., 0] * size + corner[..., 1]).long()
    filters = torch.zeros(path.shape[0], size * size, device=path.device, dtype=path.dtype)
    for down in (0, 1):
        for right in (0, 1):
            weight = (share[..., 0] if down else 1 - share[..., 0]) * (share[..., 1] if right else 1 - share[..., 1])
            filters.scatter_add_(1, index + down * size + right, weight)
    return (filters / path.shape[1]).reshape(-1, 1, size, size)


def to_linear_light(value: Tensor) -> Tensor:
    """Decode sRGB values to linear light (IEC 61966-2-1); linear near black and below 0."""
    # the power's argument stays above 0, where its gradient would make the unused branch NaN
    power = ((value.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(value <= 0.04045, value / 12.92, power)


def camera_response(light: Tensor) -> Tensor:
    """Encode linear light as sRGB values (IEC 61966-2-1), without clipping; linear near black and below 0."""
    power = 1.055 * light.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(light <= 0.0031308, light * 12.92, power)
