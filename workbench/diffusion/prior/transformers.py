"""Transformers as denoisers: DiT (arXiv 2212.09748), Stable Diffusion 3 (arXiv 2403.03206) and FLUX.1."""

import torch
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.tensors import Latents, Times
from workbench.diffusion.prior.conditional import ConditionalPrior

FLUX_PATCH = 2
"""Side of FLUX's tokens in latent pixels; its pipeline makes them, so no config says so."""
TIME_UNIT = 1000.0


class _Transformer(ConditionalPrior):
    """A transformer on square patches of the latent."""

    @property
    def multiple(self) -> int:
        return int(self.network.config.patch_size)

    def check_latents(self, latent_shape: tuple[int, int, int]) -> None:
        _, height, width = latent_shape
        if height % self.multiple or width % self.multiple:
            raise UserError(f"the prior needs latents divisible by {self.multiple}, but these are {height} x {width}")


class DiTPrior(_Transformer):
    """DiT; the condition is `class_labels`, (1,). Variances that it may predict, too, are not used."""

    def check_latents(self, latent_shape: tuple[int, int, int]) -> None:
        super().check_latents(latent_shape)
        _, height, width = latent_shape
        if height != width:
            raise UserError(f"the prior (DiT) needs square latents, but these are {height} x {width}: crop the images")

    def conditioned(self, x: Latents, time: Times, condition: dict[str, Tensor]) -> Latents:
        answer: Tensor = self.network(x, timestep=time, **condition).sample
        return answer[:, : x.shape[1]]


class SD3Prior(_Transformer):
    """Stable Diffusion 3; the condition is `encoder_hidden_states` and `pooled_projections`."""

    def check_latents(self, latent_shape: tuple[int, int, int]) -> None:
        super().check_latents(latent_shape)
        largest = self.network.config.pos_embed_max_size * self.multiple
        if max(latent_shape[1:]) > largest:
            raise UserError(
                f"the prior's positions reach to latents of {largest} x {largest}, but these are "
                f"{latent_shape[1]} x {latent_shape[2]}: use smaller images"
            )

    def conditioned(self, x: Latents, time: Times, condition: dict[str, Tensor]) -> Latents:
        answer: Tensor = self.network(x, timestep=time, **condition).sample
        return answer


class FluxPrior(_Transformer):
    """FLUX.1; the condition is `encoder_hidden_states`, `pooled_projections` and, if distilled, `guidance`, (1,)."""

    @property
    def latent_channels(self) -> int:
        return int(self.network.config.in_channels) // FLUX_PATCH**2

    @property
    def multiple(self) -> int:
        return FLUX_PATCH

    def conditioned(self, x: Latents, time: Times, condition: dict[str, Tensor]) -> Latents:
        batch, channels, height, width = x.shape
        rows, columns = height // FLUX_PATCH, width // FLUX_PATCH
        tokens = x.reshape(batch, channels, rows, FLUX_PATCH, columns, FLUX_PATCH)
        tokens = tokens.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, channels * FLUX_PATCH**2)
        answer: Tensor = self.network(
            tokens,
            timestep=time / TIME_UNIT,  # the scheduler counts to T, the network to 1
            img_ids=_positions(rows, columns, x),
            txt_ids=x.new_zeros(condition["encoder_hidden_states"].shape[1], 3, dtype=torch.float32),
            **condition,
        ).sample
        answer = answer.reshape(batch, rows, columns, channels, FLUX_PATCH, FLUX_PATCH)
        return answer.permute(0, 3, 1, 4, 2, 5).reshape(x.shape)


def _positions(rows: int, columns: int, like: Tensor) -> Tensor:
    """(0, row, column) of each token, (tokens, 3)."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([torch.zeros_like(row), row, column], -1).reshape(-1, 3).to(like.device, torch.float32)
