"""SNR matching: the base of all rules that start where the chain is as noisy as z_hat."""

from abc import abstractmethod
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from workbench.core.bounds import Decibels
from workbench.core.config import UserError
from workbench.core.tensors import Latents
from workbench.diffusion import Chain
from workbench.severity.start.base import Start, StartRule, with_fallback
from workbench.severity.variance import Evidence, Need, Variance, VarianceSource

Channel = Literal["forward", "mmse"]


class Matched(StartRule):
    """Start at the cleanest level of the chain whose SNR is at or below that of z_hat.

    The two channels differ in what the error of z_hat is independent of:
    - `forward`: z0 (as in the paper, z_hat = z0 + e). Target SNR 1 / v;
      z_t = sqrt(a) z_hat + sqrt(1 - a - a v) eps.
    - `mmse`: z_hat (as squared-error training gives, z_hat = E[z0 | y]). Then z_hat / (1 - v) is z0 plus noise
      of variance v / (1 - v). Target SNR (1 - v) / v; z_t = sqrt(a) z_hat / (1 - v) + sqrt(1 - a - a v / (1 - v)) eps.
      An uninformative y (v -> 1) starts from pure noise, as it should.

    The target is divided by 10^(offset_db / 10). With a negative offset, z_hat is noisier than the start, and the
    missing (negative) noise variance is clamped to 0. If no level is noisy enough, the rule falls back to `full`, with
    a flag.
    """

    channel: Channel = Field("forward", description="what the error of z_hat is independent of: z0 or z_hat")
    offset_db: Decibels = Field(0.0, description="how much noisier than the match to start, in decibels")

    @property
    @abstractmethod
    def source(self) -> VarianceSource:
        """The source of the matched variance."""

    @property
    def needs(self) -> Need:
        return self.source.needs

    @property
    def label(self) -> str:
        """The source of the matched variance, in which rules differ within a study."""
        return self.source.label

    def channel_profile(self, evidence: Evidence) -> Tensor:
        """The variance of each latent channel divided by the mean, (channel,); (1,) if all are assumed equal."""
        return torch.ones(1, dtype=torch.float64)

    def position(self, noise_variance: Tensor, chain: Chain) -> Tensor:
        """The last position whose SNR is at or below the target, (batch,); -1 if there is none.

        Args:
            noise_variance: variance of z_hat's noise as signal plus independent noise, (batch, channel).
        """
        # noise can be added to a channel but not removed: the noisiest channel determines the start
        target = 10 ** (-self.offset_db / 10) / noise_variance.amax(1)
        # SNR ascends along the chain: the last position that is noisy enough
        return (chain.snr[None] <= target[:, None]).sum(1) - 1

    def _checked(self, variance: Variance, batch: int) -> Tensor:
        """The variance of each image, held to what a source promises."""
        value = getattr(variance, "value", None)
        if not isinstance(value, Tensor) or value.shape != (batch,):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(variance).__name__
            raise UserError(
                f"{self.source.asker} must return a Variance with one number per image, {(batch,)}, got {got}"
            )
        if bad := int((~(value >= 0)).sum()):
            raise UserError(f"{self.source.asker} must not be negative or NaN, but is for {bad} of {batch} images")
        return value

    def __call__(self, evidence: Evidence, chain: Chain, noise: Latents) -> Start:
        return self.begin(self.source(evidence), evidence, chain, noise)

    def begin(
        self, variance: Variance, evidence: Evidence, chain: Chain, noise: Latents, position: int | Tensor | None = None
    ) -> Start:
        """The start matched to `variance`; or from a given position, with the noise that each image lacks there.

        Args:
            position: one for all images, or one for each, (batch,).
        """
        v = self._checked(variance, len(noise)).double().cpu()
        by_channel = v[:, None] * self.channel_profile(evidence)
        # as signal plus independent noise: z_hat * gain = z0 + noise of variance v * gain
        gain = torch.ones_like(by_channel) if self.channel == "forward" else 1 / (1 - by_channel).clamp(min=1e-12)
        noise_variance = by_channel * gain
        if position is None:
            positions = self.position(noise_variance, chain)
            fell_back = (positions < 0) | (by_channel.amax(1) >= 1) & (self.channel == "mmse")
        else:
            positions = torch.as_tensor(position).expand(len(v))
            fell_back = torch.zeros(len(v), dtype=torch.bool)
        positions = positions.clamp(min=0)
        a = chain.alpha_bar[positions][:, None]
        missing = (1 - a - a * noise_variance).clamp(min=0)
        signal, lacking = (c.sqrt()[:, :, None, None].to(noise) for c in (a * gain.square(), missing))
        start = with_fallback(signal * evidence.estimate.z_hat + lacking * noise, positions, fell_back, noise)
        distrusted = None if variance.distrusted is None else variance.distrusted.cpu()
        return replace(start, variance=v, distrusted=distrusted)
