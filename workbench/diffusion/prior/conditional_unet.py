"""UNet2DConditionModel: the denoiser of Stable Diffusion (arXiv 2112.10752) and SDXL (arXiv 2307.01952)."""

import torch
from torch import Tensor

from workbench.core.tensors import Latents, Times
from workbench.diffusion.prior.conditional import ConditionalPrior


class StableDiffusionPrior(ConditionalPrior):
    """Stable Diffusion 1 and 2; the condition is `encoder_hidden_states`, (1, tokens, width)."""

    @property
    def multiple(self) -> int:
        return int(2 ** (len(self.network.config.block_out_channels) - 1))

    def conditioned(self, x: Latents, time: Times, condition: dict[str, Tensor]) -> Latents:
        answer: Tensor = self.network(x, time, **condition).sample
        return answer


class SDXLPrior(StableDiffusionPrior):
    """SDXL; the condition also has `text_embeds`, (1, width), and the network is told the size of the image.

    It is told that the image was not cropped, and had this size before.
    """

    downscale: int = 8
    """The factor per side by which latents are smaller than images."""

    def conditioned(self, x: Latents, time: Times, condition: dict[str, Tensor]) -> Latents:
        height, width = (self.downscale * side for side in x.shape[-2:])
        sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32, device=x.device)
        added = {"text_embeds": condition["text_embeds"], "time_ids": sizes.expand(len(x), -1)}
        answer: Tensor = self.network(
            x, time, encoder_hidden_states=condition["encoder_hidden_states"], added_cond_kwargs=added
        ).sample
        return answer
