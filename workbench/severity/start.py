"""Start rules: where does reverse diffusion begin, and from what latent?

Notation: a = alpha_bar of a noise level, SNR = a / (1 - a), v = variance of z_hat's error. Latents have unit variance.
A start is a position in the chain of noise levels, and a latent at that level.
"""

from abc import abstractmethod
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from workbench import randomness
from workbench.bounds import Decibels, Probability
from workbench.config import ADDED_LATER, UserError, plain
from workbench.diffusion import Chain, diffuse
from workbench.diffusion.noise_levels import snr
from workbench.severity.estimate import SeverityEstimate, error_variance
from workbench.severity.recalibration import AnyRecalibration, Recalibration, Unchanged
from workbench.severity.residual import residual_variance
from workbench.severity.situation import Situation, Start, StartRule
from workbench.tensors import Latents, Scalars

Channel = Literal["forward", "mmse"]
MatchedVariance = Literal["encoder", "residual", "max", "fused", "mahalanobis"]
MissingNoise = Literal["white", "channel"]


class Full(StartRule):
    """The unaccelerated baseline: z_T ~ N(0, I), all steps of the chain."""

    kind: Literal["full"] = "full"

    def __call__(self, situation: Situation) -> Start:
        batch = len(situation.noise)
        return Start(situation.noise, torch.zeros(batch, dtype=torch.int64), torch.zeros(batch, dtype=torch.bool))


class Fixed(StartRule):
    """One noise level for all images: CCDF (arXiv 2112.05146), z_t = sqrt(a) z_hat + sqrt(1 - a) eps."""

    kind: Literal["fixed"] = "fixed"
    timestep: int = Field(
        200, ge=0, le=100_000, description="where to begin; the first timestep of the chain at or below it is taken"
    )
    log_snr: float | None = Field(
        None,
        ge=-100,
        le=100,
        description="where to begin instead, ln(a / (1 - a)), for priors without timesteps too; the first level of the "
        "chain at or above it is taken",
        json_schema_extra=ADDED_LATER,
    )

    def check(self, num_timesteps: int, timesteps: Tensor) -> None:
        """Refuse, before compute is spent, a timestep that the prior has not or one below which the chain has no step.

        Args:
            timesteps: those of the chain, descending.
        """
        if self.log_snr is not None:
            return
        if self.timestep >= num_timesteps:
            raise UserError(f"start.timestep must lie below T = {num_timesteps}, got {self.timestep}")
        if self.timestep < timesteps[-1]:
            raise UserError(
                f"start.timestep = {self.timestep} lies below {int(timesteps[-1])}, the last timestep of the grid of "
                f"{len(timesteps)} steps: no step would be taken; begin earlier, or raise sampler.num_steps"
            )

    def __call__(self, situation: Situation) -> Start:
        chain, batch = situation.chain, len(situation.noise)
        if self.log_snr is None:
            self.check(len(chain.all_timesteps("start.timestep")), chain.time)
            position = _first_at_or_below(chain, torch.full((batch,), self.timestep))
        else:
            first = int((chain.snr.log() < self.log_snr).sum())
            if first == len(chain):
                raise UserError(f"start.log_snr = {self.log_snr:g} lies above the cleanest level of the chain")
            position = torch.full((batch,), first)
        z = diffuse(situation.estimate.z_hat, situation.noise, chain.alpha_bar[position])
        return Start(z, position, torch.zeros(batch, dtype=torch.bool))


class Official(StartRule):
    """The authors' rule: t = argmin |SNR_t - 1 / v| over all T, z = sqrt(1 - c v) z_hat + sqrt(c v) eps.

    The first network evaluation is at t - 1, or where the grid ends above it, at its last timestep: the noise that was
    added is to be taken away. Where c v >= 1 their square root is NaN: `full`, with a flag.
    Kept so that published settings can be compared.

    On a grid of all T this is their code, but for t = 0: they take no step from there. On a shorter grid (DDIM) it is
    not. They look for the match among the timesteps of the grid and begin two places below it, with at least one step;
    so on a grid of 500 of T = 1000 the first evaluation is some 3 to 5 timesteps below the match, here 1 or 2. Here the
    match is over all T on any grid, and the noise that is added is the same.
    """

    kind: Literal["official"] = "official"

    c: float = Field(1.2, gt=0, le=1000, description="factor on the variance; published settings use 1.0 to 1.2")

    @property
    def trusts_encoder(self) -> bool:
        return True

    def index(self, var: Scalars, alpha_bar: Tensor) -> Tensor:
        """argmin over timesteps of |SNR_t - 1 / v|, (batch,) int64, given alpha_bar of all T."""
        return (snr(alpha_bar)[None] - 1 / var.double().cpu()[:, None]).abs().argmin(1)

    def __call__(self, situation: Situation) -> Start:
        var = _per_image(situation.estimate)
        chain = situation.chain
        position = _first_at_or_below(chain, self.index(var, chain.all_timesteps("start official")) - 1)
        position = position.clamp(max=len(chain) - 1)
        noise_variance = self.c * var.double()
        fell_back = (noise_variance >= 1).cpu()
        z = diffuse(situation.estimate.z_hat, situation.noise, (1 - noise_variance).clamp(min=0))
        return _with_fallback(z, position, fell_back, situation)


class Matched(StartRule):
    """Begin at the cleanest level of the chain whose SNR is at or below that of z_hat.

    Which quantity is z_hat's error independent of?
    - `forward`: of z0 (the paper's reading, z_hat = z0 + e). Target SNR 1 / v;
      z_t = sqrt(a) z_hat + sqrt(1 - a - a v) eps.
    - `mmse`: of z_hat (what squared-error training gives, z_hat = E[z0 | y]). Then z_hat / (1 - v) is z0 plus noise
      of variance v / (1 - v). Target SNR (1 - v) / v; z_t = sqrt(a) z_hat / (1 - v) + sqrt(1 - a - a v / (1 - v)) eps.
      An uninformative y (v -> 1) begins from pure noise, as it should.

    The target is divided by 10^(offset_db / 10). Under a negative offset z_hat is noisier than the start; the missing
    (negative) noise variance is clamped at 0. Where no level is noisy enough: `full`, with a flag.
    """

    channel: Channel = Field("forward", description="what the error of z_hat is independent of: z0 or z_hat")
    offset_db: Decibels = Field(0.0, description="how much noisier than matched to begin, in decibels")

    @abstractmethod
    def matched_variance(self, situation: Situation) -> tuple[Scalars, Tensor | None]:
        """The variance that is matched, and whether the encoder is distrusted (None: not asked), per image."""

    def channel_profile(self, situation: Situation) -> Tensor:
        """The variance of each latent channel over the mean, (channel,); (1,) where all are taken to have the mean."""
        return torch.ones(1, dtype=torch.float64)

    def position(self, noise_variance: Tensor, chain: Chain) -> Tensor:
        """The last position whose SNR is at or below the target; -1 where there is none, (batch,).

        Args:
            noise_variance: of z_hat as signal plus independent noise, (batch, channel).
        """
        # noise can be added to a channel and not taken away: the noisiest one says where to begin
        target = 10 ** (-self.offset_db / 10) / noise_variance.amax(1)
        # SNR ascends along the chain: the last position that is noisy enough
        return (chain.snr[None] <= target[:, None]).sum(1) - 1

    def __call__(self, situation: Situation) -> Start:
        return self.begin(situation, *self.matched_variance(situation))

    def begin(
        self, situation: Situation, variance: Scalars, distrusted: Tensor | None = None, position: int | None = None
    ) -> Start:
        """The start matched to `variance`; or from one position for all images, each with the noise that it lacks."""
        v = variance.double().cpu()
        by_channel = v[:, None] * self.channel_profile(situation)
        # as signal plus independent noise: z_hat * gain = z0 + noise of variance v * gain
        gain = torch.ones_like(by_channel) if self.channel == "forward" else 1 / (1 - by_channel).clamp(min=1e-12)
        noise_variance = by_channel * gain
        if position is None:
            positions = self.position(noise_variance, situation.chain)
            fell_back = (positions < 0) | (by_channel.amax(1) >= 1) & (self.channel == "mmse")
        else:
            positions, fell_back = torch.full((len(v),), position), torch.zeros(len(v), dtype=torch.bool)
        positions = positions.clamp(min=0)
        a = situation.chain.alpha_bar[positions][:, None]
        missing = (1 - a - a * noise_variance).clamp(min=0)
        signal, noise = (c.sqrt()[:, :, None, None].to(situation.noise) for c in (a * gain.square(), missing))
        z = signal * situation.estimate.z_hat + noise * situation.noise
        start = _with_fallback(z, positions, fell_back, situation)
        return replace(start, variance=v, distrusted=None if distrusted is None else distrusted.cpu())


class SNRMatch(Matched):
    """The SNR of z_hat is read from the severity encoder's variance, from the measurement's residual, or from both.

    Where `variance` raises var_hat by a factor (fused, mahalanobis), the factor is that of var_hat as it was predicted
    and applies to the recalibrated one. It is at least 1, so that what `risk` promises is kept, up to a var_hat of 4:
    there the raised variance ends (`residual.MAX_VARIANCE`). A negative `offset_db` starts later than what is promised.
    """

    kind: Literal["snr_match"] = "snr_match"
    variance: MatchedVariance = Field(
        "encoder",
        description="whose variance is matched: the severity encoder's; that which explains the residual of the "
        "measurement; the larger of the two (max); the encoder's until the residual contradicts it (fused); the "
        "encoder's, raised with the distance of its features from the usual (mahalanobis)",
    )
    recalibration: AnyRecalibration = Field(
        Unchanged(),
        description="how the encoder's variance is made right, as fitted on validation images of its own degradation",
        json_schema_extra=ADDED_LATER,
    )
    risk: Probability | None = Field(
        None,
        description="match a variance that the true one exceeds with at most this probability (split conformal)",
        json_schema_extra=ADDED_LATER,
    )
    noise: MissingNoise = Field(
        "white",
        description="the noise that z_hat lacks is the same in all latent channels (white), or each channel gets what "
        "its own error lacks (channel), whose share in the variance was fitted on validation images",
        json_schema_extra=ADDED_LATER,
    )

    @model_validator(mode="after")
    def _recalibrates_the_encoder(self) -> "SNRMatch":
        if self.changes_encoder and self.variance in ("residual", "max"):
            field = "recalibration" if self.risk is None else "risk"
            raise ValueError(
                f"{field} is about the severity encoder's variance, not the residual's: "
                f"set variance=encoder, fused or mahalanobis instead of {self.variance}"
            )
        return self

    @property
    def label(self) -> str:
        """Whose variance is matched: in one study that is what rules differ in."""
        return self.variance

    @property
    def fitted(self) -> bool:
        """Whether the rule needs to know what is usual for the severity encoder."""
        return self.variance in ("fused", "mahalanobis")

    @property
    def changes_encoder(self) -> bool:
        """Whether what stands in for var_hat is a recalibrated variance or a bound."""
        return self.recalibration != Unchanged() or self.risk is not None

    @property
    def recalibrated(self) -> bool:
        """Whether the rule needs the severity encoder's recalibration, or the channel profile fitted with it."""
        return self.changes_encoder or self.noise == "channel"

    @property
    def trusts_encoder(self) -> bool:
        """Whether var_hat enters the result."""
        return self.variance != "residual"

    def matched_variance(self, situation: Situation) -> tuple[Scalars, Tensor | None]:
        variance, distrusted = self._predicted(situation)
        if self.changes_encoder:
            fit, own = self._fit(situation), _per_image(situation.estimate)
            variance = variance * (fit.apply(own) if self.risk is None else fit.bound(own, self.risk)) / own
        return variance, distrusted

    def channel_profile(self, situation: Situation) -> Tensor:
        if self.noise == "white":
            return super().channel_profile(situation)
        profile = torch.tensor(self._fit(situation).channel_profile, dtype=torch.float64)
        if len(profile) != situation.noise.shape[1]:
            raise UserError(f"start.noise=channel was fitted to {len(profile)} channels of another autoencoder")
        return profile

    def _fit(self, situation: Situation) -> Recalibration:
        if situation.recalibration is None:
            raise UserError(
                f"start.{asked_of_encoder(self)} needs a fit on validation images of the severity encoder's "
                "degradation: pass recalibration= made by FitRecalibration(...).load(runtime), or use load_restorer, "
                "which fits it"
            )
        return situation.recalibration

    def _predicted(self, situation: Situation) -> tuple[Scalars, Tensor | None]:
        """The variance, and whether the encoder is distrusted, before recalibration."""
        own = _per_image(situation.estimate)
        if self.variance == "encoder":
            return own, None
        if self.fitted and situation.fusion is None:
            raise UserError(
                f"start.variance={self.variance} needs a fit of what is usual for the severity encoder: pass fusion= "
                "made by FitFusion(...).load(runtime), or use load_restorer, which fits it"
            )
        if self.variance == "mahalanobis":
            assert situation.fusion is not None
            if situation.estimate.features is None:
                raise UserError("start.variance=mahalanobis needs a severity encoder that gives its features")
            return situation.fusion.by_distance(own, situation.estimate.features).to(own), None
        if situation.forward is None or situation.encode is None:
            raise UserError(f"start.variance={self.variance} needs the operator, the decoder and the encoder")
        residual = residual_variance(
            situation.estimate.z_hat,
            situation.measurement,
            situation.forward,
            situation.encode,
            own,
            seed=situation.seed,
        )
        if self.variance == "fused":
            assert situation.fusion is not None
            return situation.fusion.fused(own, residual)
        return residual if self.variance == "residual" else torch.maximum(own, residual), None


class _TrueVariance(Matched):
    """Matches the true error variance s2."""

    kind: str

    @property
    def label(self) -> str:
        """Whose variance is matched."""
        return "true"

    def matched_variance(self, situation: Situation) -> tuple[Scalars, Tensor | None]:
        if situation.truth is None:
            raise UserError(f"{self.kind} needs the clean images: use it in studies, not to restore")
        return error_variance(situation.estimate.z_hat, situation.truth), None


class OracleVariance(_TrueVariance):
    """`snr_match` with the true error variance s2: what an encoder that knew it would do, and no best start.

    The error is more than its variance, so that other starts can do better.
    """

    kind: Literal["oracle_variance"] = "oracle_variance"


class OracleGaussian(_TrueVariance):
    """`oracle_variance` from an error as the theory has it: z0 plus white Gaussian noise of variance s2, for z_hat.

    It starts where `oracle_variance` does. What restoration from it is better is likely more than what the real error
    costs by being neither Gaussian nor white: this noise owes nothing to the measurement, so that the latent also tells
    of z0 what no estimate from the measurement can. That is an argument and no bound: prior and solver are not ideal,
    and a restoration from the real error can come out better.
    """

    kind: Literal["oracle_gaussian"] = "oracle_gaussian"

    @property
    def label(self) -> str:
        """Whose variance is matched, and what the error is."""
        return "true, Gaussian error"

    def __call__(self, situation: Situation) -> Start:
        variance, _ = self.matched_variance(situation)
        assert situation.truth is not None  # else there would be no variance
        z0, ids = situation.truth, situation.measurement.ids
        noise = randomness.normal(ids, (situation.seed, "gaussian error"), tuple(z0.shape[1:])).to(z0)
        # of each image to the letter, so that the starts are the same
        noise = noise - noise.mean((1, 2, 3), keepdim=True)
        scale = (variance / error_variance(noise, torch.zeros_like(noise))).sqrt()
        z_hat = z0 + scale.reshape(-1, 1, 1, 1) * noise
        return super().__call__(replace(situation, estimate=replace(situation.estimate, z_hat=z_hat)))


def asked_of_encoder(start: Any) -> str | None:
    """The field of a start rule that needs a fit to the severity encoder, such as "risk=0.1"; None if there is none.

    Args:
        start: a rule, or its fields before they are validated.
    """
    fields = plain(start)
    if not isinstance(fields, dict) or fields.get("kind") != "snr_match":
        return None
    if fields.get("noise") == "channel":
        return "noise=channel"
    if fields.get("risk") is not None:
        return f"risk={fields['risk']}"
    recalibration = fields.get("recalibration")
    kind = recalibration.get("kind", "none") if isinstance(recalibration, dict) else "none"
    return None if kind == "none" else f"recalibration={kind}"


def _per_image(estimate: SeverityEstimate) -> Scalars:
    """var_hat as one number an image."""
    var = estimate.var_hat.flatten(1).mean(1)
    bad = int((~(var.isfinite() & (var > 0))).sum())
    if bad:
        raise UserError(
            f"var_hat must be positive and finite to start from, and that of {bad} of {len(var)} images is not: "
            "train the severity encoder longer, or restore without one (--encoder none)"
        )
    return var


def _first_at_or_below(chain: Chain, timestep: Tensor) -> Tensor:
    """The position of the chain's first timestep at or below `timestep`; len(chain) where there is none."""
    return (chain.time[None] > timestep[:, None]).sum(1)


def _with_fallback(z: Latents, position: Tensor, fell_back: Tensor, situation: Situation) -> Start:
    """Pure noise and all steps where `fell_back`."""
    z = torch.where(fell_back.reshape(-1, 1, 1, 1).to(z.device), situation.noise, z)
    return Start(z, torch.where(fell_back, 0, position), fell_back)
