"""Haze: loss of contrast with distance."""

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812

from workbench.core import randomness
from workbench.core.tensors import Ids, Images, Measurements, Severities
from workbench.degradations import physics
from workbench.degradations.base import Degradation, Params
from workbench.degradations.given import Given, refuse

MAX_THICKNESS = 2.0  # optical thickness at the scene's mean depth, at severity 1
NEAREST, FARTHEST = 0.5, 1.5  # depth of the bottom and the top row, in units of the mean
RELIEF = 0.2  # std of the depth around that slope
MIN_DEPTH = 0.1
RELIEF_POINTS = 4  # per side; the relief is interpolated between them
MIN_AIRLIGHT = 0.7  # on [0, 1] images
OPAQUE = 10.0  # optical thickness: the remaining contrast is 1/100 of an 8-bit level


class Haze(Degradation):
    """Each pixel fades into the airlight with its depth: y = t x + (1 - t) airlight, t = exp(-thickness * depth).

    The model of He, Sun and Tang, "Single Image Haze Removal Using Dark Channel Prior", IEEE TPAMI 2011, equations 1
    and 2, as implemented by deepinv's Haze. The images have no depth map, so one is drawn for each: a ground that
    recedes from the bottom row to the top, with a smooth relief. The airlight is grey and uniform on [0.7, 1]. A knows
    both and is affine in x. At severity 1, the top row has an optical thickness of 3, which is about the visibility
    limit of Koschmieder's law (5 % of the contrast).
    """

    kind: Literal["haze"] = "haze"

    linear: ClassVar[bool] = False
    identity_db: ClassVar[float] = 100.0
    draws_parameters: ClassVar[bool] = True
    severity_range: ClassVar[str] = "optical thickness at mean depth 0 -> 2 (transmission 100 -> 14 %), linear"

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """`thickness` and `airlight` (batch, 1, 1, 1); `depth` (batch, 1, height, width), about 1 on average."""
        height, width = image_shape[1:]
        slope = torch.linspace(FARTHEST, NEAREST, height).to(severity)[:, None]
        points = randomness.normal(ids, (seed, "relief"), (1, RELIEF_POINTS, RELIEF_POINTS)).to(severity)
        relief = F.interpolate(points, (height, width), mode="bilinear", align_corners=False)
        draw = randomness.uniform(ids, (seed, "airlight"), (1, 1, 1)).to(severity)
        return {
            "thickness": MAX_THICKNESS * severity[:, None, None, None],
            "depth": (slope + RELIEF * relief).clamp(min=MIN_DEPTH),
            "airlight": MIN_AIRLIGHT + (1 - MIN_AIRLIGHT) * draw,
        }

    def A(self, x: Images, params: Params) -> Measurements:
        """The hazy image."""
        scene = [x, params["depth"].to(x), params["airlight"].to(x)]
        return physics.haze(params["thickness"], x).A(scene)

    def given_parameters(self, params: Params, image_shape: tuple[int, int, int]) -> tuple[Params, list[str]]:
        """Non-negative thickness and depth that transmit some light, and an airlight on [0, 1].

        Raises:
            UserError: also if the haze is so thick that nothing of the image is left.
        """
        given = Given(self.kind, params, ("thickness", "depth", "airlight"), image_shape)
        channels, height, width = image_shape
        grey_or_colour = (1, channels)
        thickness = given.numbers("thickness", 1, 1, 1, low=0, high=math.inf, meaning="optical thickness at depth 1")
        depth = given.numbers("depth", 1, height, width, low=0, high=math.inf)
        airlight = given.numbers("airlight", grey_or_colour, 1, 1, low=0, high=1, meaning="on [0, 1] images")
        refuse(
            (thickness * depth).flatten(1).amin(1) > OPAQUE,
            f"thickness times depth of haze is above {OPAQUE:g} everywhere: nothing of the image is left",
        )
        return given.taken({"thickness": thickness, "depth": depth, "airlight": airlight})

    def describe(self, severity: float) -> str:
        """The fraction of light from the mean depth that arrives."""
        return f"transmission {100 * math.exp(-MAX_THICKNESS * severity):.0f} % at mean depth"
