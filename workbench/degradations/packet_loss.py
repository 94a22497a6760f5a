"""Sound with lost packets."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from workbench.core import randomness
from workbench.core.sound import SAMPLE_RATE
from workbench.core.tensors import Blocks, Ids, Severities
from workbench.degradations.base import Params
from workbench.degradations.given import Given, refuse
from workbench.degradations.sound import Sound

PACKET = SAMPLE_RATE // 50
"""Samples of 20 ms, as in telephony over networks."""
FEWEST, MOST = 0.02, 0.6
"""Probability that a packet is lost at severity 0 and 1."""


class PacketLoss(Sound):
    """Packets of 20 ms are lost at random, with a probability from 2 % (severity 0) to 60 % (severity 1).

    Restoring it is packet loss concealment. Noise and residual are defined on the samples that arrived; y is 0 where a
    packet was lost. For a given image and seed, packets that arrive at a severity also arrive at any lower one, and at
    least one packet always does.
    """

    kind: Literal["packet_loss"] = "packet_loss"

    draws_parameters: ClassVar[bool] = True
    identity_db: ClassVar[float] = 10.0
    severity_range: ClassVar[str] = "probability that a packet of 20 ms is lost 2 -> 60 %, linear"
    unobserved: ClassVar[str] = "where the mask drops"
    when_it_is_not_zero: ClassVar[str] = "pass the mask of this recording, 1 where its samples arrived"

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """`mask` (batch, 1, frame, band), in blocks like y: 1 where a sample arrived, 0 where its packet was lost."""
        _, bands, frames = image_shape
        number = -(-bands * frames // PACKET)
        draw = randomness.uniform(ids, (seed, "packets"), (number,)).to(severity.device)
        arrived = draw >= (FEWEST + (MOST - FEWEST) * severity)[:, None]
        arrived |= draw == draw.amax(1, keepdim=True)
        samples = arrived.repeat_interleave(PACKET, 1)[:, : bands * frames]
        return {"mask": samples.to(severity.dtype).reshape(-1, 1, frames, bands)}

    def hear(self, waveform: Blocks, params: Params) -> Blocks:
        """The samples that arrived, and 0 elsewhere."""
        return waveform * params["mask"].to(waveform)

    def observed(self, params: Params) -> Tensor:
        """The mask."""
        return params["mask"]

    def given_parameters(self, params: Params, image_shape: tuple[int, int, int]) -> tuple[Params, list[str]]:
        """A mask of zeros and ones, (images, samples) or in blocks like y."""
        _, bands, frames = image_shape
        mask = params.get("mask")
        if mask is not None and mask.shape[1:] == (bands * frames,):
            params = {**params, "mask": mask.reshape(-1, 1, frames, bands)}
        given = Given(self.kind, params, ("mask",), image_shape)
        arrived = given.numbers(
            "mask", 1, frames, bands, low=0, high=1, whole=True, meaning="1 where a sample arrived, 0 where it was lost"
        )
        refuse(~arrived.flatten(1).any(1), f"mask of {self.kind} keeps no sample")
        return given.taken({"mask": arrived})

    def severity_of(self, params: Params) -> Severities:
        """By the fraction of samples that were lost."""
        lost = 1 - params["mask"].flatten(1).mean(1)
        return ((lost - FEWEST) / (MOST - FEWEST)).clamp(0, 1)

    def describe(self, severity: float) -> str:
        """The fraction of packets lost."""
        return f"{100 * (FEWEST + (MOST - FEWEST) * severity):.0f} % of the packets lost"


def lost_packets(waveform: Tensor) -> Tensor:
    """Where a recording has exact zeros for at least half a packet, (samples,) bool."""
    zero = (waveform == 0).long()
    # the length of the run of zeros that each sample belongs to
    starts = torch.cat([torch.ones(1, dtype=torch.long), (zero.diff() != 0).long()]).cumsum(0) - 1
    length = torch.bincount(starts)[starts]
    return (zero == 1) & (length >= PACKET // 2)
