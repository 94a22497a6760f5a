"""Evaluate: restore a fixed set of measurements and compare with the ground truth, one row per image."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field, ValidationInfo, field_validator, model_validator

from workbench.autoencoders import AnyAutoencoder, Autoencoder, Tiny
from workbench.core.bounds import Count, Seed
from workbench.core.config import ADDED_LATER, NOT_IDENTITY, UserError, digest
from workbench.core.files import PARTIAL
from workbench.core.randomness import seed_of
from workbench.data import FashionMNIST, Source, Split
from workbench.degradations import (
    AnyDegradation,
    AnySeverityDistribution,
    AtSeverity,
    GaussianBlur,
    Uniform,
    members_of,
)
from workbench.diffusion import DDIM, AnyPrior, NoiseLevels, Sampler, UNetRecipe
from workbench.metrics import (
    LPIPS,
    PSNR,
    SSIM,
    Absent,
    AnyMetric,
    LPIPSConfig,
    LPIPSMetric,
    Metric,
    MetricWeights,
    Residual,
    SetMetric,
    load_lpips,
)
from workbench.metrics.perceptual import LPIPS_CHANNELS
from workbench.restoration import Restorer
from workbench.restoration.memory import fitted as fitting_memory
from workbench.severity.calibration import Fusion, NonBlindFit, Recalibration, check_sample
from workbench.severity.estimator import Estimator
from workbench.severity.fitted import FittedRecipe
from workbench.severity.recipe import AnySeverity, SeverityRecipe
from workbench.severity.reconstructor import Reconstructor
from workbench.severity.start import (
    Allocated,
    Allocating,
    AnyStart,
    Budget,
    Costs,
    EqualCost,
    Full,
    Outcomes,
    SNRMatch,
    Spending,
    asked_of_encoder,
    spend,
)
from workbench.severity.untrained import NoEncoder
from workbench.severity.variance import Mahalanobis, Need
from workbench.solvers import LDPS, AnySolver, Precision, weights_type
from workbench.stages.base import Stage
from workbench.stages.fit.fit_estimator import FitEstimator, Fitted
from workbench.stages.fit.fit_fusion import STATISTICS, FitFusion, read_fusion
from workbench.stages.fit.fit_non_blind import FitNonBlind, read_non_blind
from workbench.stages.fit.fit_recalibration import FitRecalibration
from workbench.stages.flops import DEFAULT_SHAPE, coder_flops, default_prior_flops, values
from workbench.stages.latent_stage import LatentStage
from workbench.stages.measure.scoring import Scoring
from workbench.stages.measure.shared_evaluation import restore_all
from workbench.stages.rows import (
    ABSENT,
    COSTS,
    DRAW,
    EXAMPLES,
    OPERATOR,
    ROWS,
    SET_METRICS,
    RowStream,
    write_sorted,
)
from workbench.stages.runtime import Runtime
from workbench.stages.train.train_prior import TrainPrior
from workbench.stages.train.train_severity import SHIPPED, TrainSeverity

if TYPE_CHECKING:
    from workbench.stages.fit.fit_allocation import FitAllocation

NUM_EXAMPLES = 32
USUAL_SHARE, DEFAULT_STEPS = 0.2, 500
"""Typical fraction of the timesteps left after a matched start, and the steps of the default sampler."""
GRADIENT = 3.0
"""The cost of an evaluation with its gradient, in evaluations."""
OTHER_COLUMNS = (
    "image_id",
    *COSTS,
    DRAW,
    "residual_rms_decoded",
    "log_var_y",
    "var_hat",
    "start_variance",
    "distrusted",
    "s2",
    "bias",
    "start_timestep",
    "oracle_timestep",
    "fell_back",
    "diverged",
    OPERATOR,
    "severity",
    "measurement_set",
)
"""Columns of every row, beside those of the metrics."""
ANY_LATENT = (1, 8, 8)
"""Any shape of latents: the number of noise levels does not depend on it."""


class Evaluate(LatentStage):
    """One cell: a severity encoder, a start rule and a solver on the measurements of one degradation.

    The prior and the severity encoder are trained for this autoencoder and these data.
    """

    name: ClassVar[str] = "evaluate"
    version: ClassVar[int] = 1
    seconds_per_effort: ClassVar[float] = 0.07

    data: Source = FashionMNIST()
    autoencoder: AnyAutoencoder = Tiny()
    prior: AnyPrior = UNetRecipe()
    severity_encoder: AnySeverity = SeverityRecipe(degradation=GaussianBlur())
    degradation: AnyDegradation = Field(GaussianBlur(), description="degradation of the evaluated images")
    start: AnyStart = SNRMatch(variance="fused")
    solver: AnySolver = LDPS()
    sampler: Sampler = DDIM(num_steps=500)
    lpips: LPIPSConfig = LPIPSConfig()
    split: Split = Field("test", description="tune on val, report on test")
    num_images: Count = Field(128, description="number of images, from the start of the split")
    seed: Seed = Field(0, description="seed of severities, operators, noise and sampling")
    sample: Seed = Field(
        0,
        description="index of the draw of start noise and sampling noise, for the same measurements",
        json_schema_extra=ADDED_LATER,
    )
    num_draws: int = Field(
        1,
        ge=1,
        le=1000,
        description="restorations of each image with other noise; the one with the smallest residual is kept, and the "
        "cost is that of all",
        json_schema_extra=ADDED_LATER,
    )
    precision: Precision = Field(
        "float32",
        description="precision of prior and autoencoder in the solver's steps; bf16: mixed, faster where supported; "
        "bf16-true, fp16-true: the prior's weights too, which take half the memory",
        json_schema_extra=ADDED_LATER,
    )
    severities: AnySeverityDistribution = Field(
        Uniform(), description="distribution of the severities of the images", json_schema_extra=ADDED_LATER
    )
    metrics: tuple[AnyMetric, ...] = Field(
        (PSNR(), SSIM(), Residual(), LPIPS()),
        description="metrics of the restored images",
        json_schema_extra=ADDED_LATER,
    )
    metric_weights: MetricWeights = Field(
        MetricWeights(), description="files with the weights of metrics", json_schema_extra=NOT_IDENTITY
    )
    num_examples: int = Field(
        NUM_EXAMPLES,
        ge=0,
        le=100_000,
        description="number of images stored for the report",
        json_schema_extra=NOT_IDENTITY,
    )

    @field_validator("start", mode="before")
    @classmethod
    def _has_the_encoder_it_asks_for(cls, start: Any, info: ValidationInfo) -> Any:
        """Runs before the start rule's own check, whose advice (another variance) does not help here."""
        if isinstance(info.data.get("severity_encoder"), NoEncoder) and (asked := asked_of_encoder(start)):
            raise UserError(
                f"{asked} needs a severity encoder, but there is none: restore with --encoder quick, matched or "
                "universal, or run the study without severity_encoder.kind=none"
            )
        return start

    @field_validator("metrics", mode="before")
    @classmethod
    def _one_or_more(cls, metrics: Any) -> Any:
        """A name, or several with commas: `--metrics=psnr,ssim`."""
        return [name.strip() for name in metrics.split(",")] if isinstance(metrics, str) else metrics

    @field_validator("metrics")
    @classmethod
    def _fill_different_columns(cls, metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
        filled: dict[str, str] = dict.fromkeys(OTHER_COLUMNS, "every cell")
        kinds = [metric.kind for metric in metrics]
        if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
            raise ValueError(f"{twice[0]} is given twice: remove one")
        for metric in metrics:
            declared = getattr(metric, "columns", None)
            if not isinstance(declared, Mapping):
                raise ValueError(f"{metric.kind} declares no `columns`: a dict of 'higher', 'lower' or None by name")
            for name in declared:
                if name in filled:
                    raise ValueError(f"{metric.kind} and {filled[name]} both fill the column {name!r}: rename it")
                filled[name] = metric.kind
        return metrics

    @model_validator(mode="after")
    def _compatible(self) -> "Evaluate":
        self.solver.check(self.degradation)
        self.severity_encoder.check(self.degradation)
        if isinstance(self.degradation, AtSeverity) and self.severities != Uniform():
            raise ValueError("all images are at one severity (at_severity): set severities.kind=uniform")
        if isinstance(self.severity_encoder, NoEncoder) and Need.VAR_HAT in self.start.needs:
            raise ValueError(
                "without a severity encoder there is no variance of its own to start from: "
                "set start.variance=residual, or another start"
            )
        untrained = self._trained is None and self._fitted is None
        if Need.NON_BLIND in self.start.needs and self._trained is None:
            raise ValueError(
                f"start.variance=non_blind is fitted to a trained severity encoder, which {self.severity_encoder.kind} "
                "is not: set start.variance=encoder, fused or residual"
            )
        if untrained and self.start.needs & (Need.FUSION | Need.RECALIBRATION):
            raise ValueError(
                f"{self.severity_encoder.kind} is not trained here, and what this start needs is fitted to encoders "
                "that are: set start.variance=encoder or residual, without recalibration, risk or noise=channel"
            )
        self._check_fitted()
        self._check_draws()
        planned = None if self.prior.is_given else self.prior.levels()
        if planned is not None:
            self._check_chain(planned, ANY_LATENT)
        return self

    def _check_fitted(self) -> None:
        """Refuse what an estimator that is fitted to one operator cannot promise. Raises UserError."""
        if (recipe := self._fitted) is None or not isinstance(self.start, SNRMatch):
            return
        if isinstance(self.start.variance, Mahalanobis):
            raise UserError(
                f"start.variance=mahalanobis needs errors on other degradations, which {recipe.kind} is not fitted to: "
                "set start.variance=fused or encoder"
            )
        if self.start.risk is not None and recipe.images == "prior":
            raise UserError(
                "start.risk holds for images exchangeable with the held-out ones, which samples of the prior are not: "
                "set severity_encoder.images=data, or leave out the risk"
            )

    def _check_draws(self) -> None:
        """Refuse several draws where they are all the same, or where one was planned. Raises UserError."""
        if self.num_draws == 1:
            return
        if not self.solver.diffuses:
            raise UserError(f"{self.solver.kind} draws no noise, so that all draws are the same: set num_draws=1")
        if isinstance(self.start, EqualCost):
            raise UserError("start.kind=equal_cost spends the cost of one restoration an image: set num_draws=1")

    def _check_chain(self, levels: NoiseLevels, latent_shape: tuple[int, int, int]) -> None:
        """Refuse a sampler or a start that these noise levels have not. Raises UserError."""
        self.start.check(self.sampler.chain(levels, latent_shape))

    @property
    def _trained(self) -> SeverityRecipe | None:
        """The severity encoder, if one is trained here."""
        return self.severity_encoder if isinstance(self.severity_encoder, SeverityRecipe) else None

    @property
    def _fitted(self) -> FittedRecipe | None:
        """The estimator, if it is fitted to the degradation at hand."""
        return self.severity_encoder if isinstance(self.severity_encoder, FittedRecipe) else None

    def effort(self) -> float:
        return self.num_images

    def relative_cost(self) -> float:
        prior, coder = default_prior_flops(), coder_flops(Tiny(), None, DEFAULT_SHAPE)
        default = coder + USUAL_SHARE * DEFAULT_STEPS * GRADIENT * (prior + coder / 2)
        given = self.autoencoder_stage().shipped_weights()
        coder = coder_flops(self.autoencoder, given, self.data.image_shape)
        networks = coder
        if self.solver.diffuses:
            share = 1.0 if isinstance(self.start, Full) else USUAL_SHARE
            prior = self.prior_stage().evaluation_flops()
            step = GRADIENT * (prior + coder / 2) if self.solver.guided else prior
            networks += self.num_draws * share * self.sampler.num_steps * step
        # outside networks, an image takes about as long as encoding and decoding a default one
        other = coder_flops(Tiny(), None, DEFAULT_SHAPE) * values(self.data.image_shape) / values(DEFAULT_SHAPE)
        return (networks + other) / default

    @property
    def label(self) -> str:
        kind = self.severity_encoder.kind
        encoder = " without encoder" if isinstance(self.severity_encoder, NoEncoder) else f" by {kind}"
        if (recipe := self._trained) is not None:
            known = recipe.degradation
            encoder = "" if known == self.degradation else f" by {known.kind} encoder"
        return f"{self.degradation.kind}{encoder}, {self.autoencoder.label}, {self.start.kind}, {self.solver.kind}"

    def prior_stage(self) -> TrainPrior:
        """The stage of the prior."""
        return TrainPrior(data=self.data, autoencoder=self.autoencoder, prior=self.prior)

    def severity_stage(self) -> TrainSeverity | None:
        """The stage of the severity encoder, if one is trained here."""
        if (recipe := self._trained) is None:
            return None
        return TrainSeverity(data=self.data, autoencoder=self.autoencoder, severity_encoder=recipe)

    def estimator_stage(self) -> FitEstimator | None:
        """The stage of the estimator, if it is fitted to the degradation at hand."""
        if (recipe := self._fitted) is None:
            return None
        return FitEstimator(
            data=self.data,
            autoencoder=self.autoencoder,
            severity_encoder=recipe,
            degradation=self.degradation,
            prior=self.prior if recipe.images == "prior" else None,
        )

    def fusion_stage(self) -> FitFusion | None:
        """The stage of the severity encoder's in-distribution statistics, if the start rule needs them."""
        if Need.FUSION not in self.start.needs or (recipe := self._trained) is None:
            return None
        return FitFusion(data=self.data, autoencoder=self.autoencoder, severity_encoder=recipe)

    def shipped_fusion(self) -> Fusion | None:
        """The same statistics, if the start rule needs them and they ship with the encoder.

        Raises:
            UserError: if they are damaged.
        """
        folder = self._shipped_statistics(Need.FUSION)
        return None if folder is None else read_fusion(folder)

    def _shipped_statistics(self, need: Need) -> Path | None:
        """The folder of what ships beside the severity encoder, if the start rule needs it and the encoder ships."""
        stage = self.severity_stage()
        if stage is None or need not in self.start.needs or (folder := stage.given()) is None:
            return None
        return folder.with_name(STATISTICS) if folder.name == SHIPPED else None

    def non_blind_stage(self) -> FitNonBlind | None:
        """The stage of the regressions of the encoder's error for the operator, if the start rule needs them."""
        if Need.NON_BLIND not in self.start.needs or (recipe := self._trained) is None:
            return None
        return FitNonBlind(
            data=self.data, autoencoder=self.autoencoder, severity_encoder=recipe, degradation=self.degradation
        )

    def shipped_non_blind(self) -> NonBlindFit | None:
        """The same regressions, if they ship with the encoder; None if not, or not for this operator.

        Raises:
            UserError: if they are damaged.
        """
        folder = self._shipped_statistics(Need.NON_BLIND)
        found = None if folder is None else read_non_blind(folder)
        return None if found is None else found.of([member.canonical() for member in members_of(self.degradation)])

    def recalibration_stage(self) -> FitRecalibration | None:
        """The stage of the severity encoder's recalibration, if the start rule needs it."""
        if Need.RECALIBRATION not in self.start.needs or (recipe := self._trained) is None:
            return None
        if not isinstance(self.start, SNRMatch):
            return None
        return FitRecalibration(
            data=self.data,
            autoencoder=self.autoencoder,
            severity_encoder=recipe,
            recalibration=self.start.recalibration,
        )

    def matched_stages(self) -> "tuple[Evaluate, ...]":
        """For a control: the start that it is compared with, on these images and, if necessary, on val."""
        if not isinstance(self.start, EqualCost):
            return ()
        fields = {name: getattr(self, name) for name in Evaluate.model_fields} | {"start": self.start.of}
        if not any("z0" in metric.needs for metric in self.metrics):
            fields["metrics"] = (*self.metrics, PSNR())  # known severity is looked up from the true error
        matched = Evaluate(**fields)
        if self.start.control != "known_severity":
            return (matched,)
        return (matched, matched.replace(split="val", num_images=self.start.num_val_images))

    def allocation_stage(self) -> "FitAllocation | None":
        """The stage of what evaluations are worth, if the start rule needs it."""
        from workbench.stages.fit.fit_allocation import FitAllocation  # which restores validation images by cells

        if not isinstance(self.start, Allocated):
            return None
        return FitAllocation.of(self, self.start)

    def upstream(self) -> tuple[Stage, ...]:
        stages = (self.autoencoder_stage(), self.prior_stage(), self.severity_stage(), self.estimator_stage())
        fits = (self.fusion_stage(), self.recalibration_stage(), self.non_blind_stage(), self.allocation_stage())
        return tuple(stage for stage in (*stages, *fits, *self.matched_stages()) if stage is not None)

    def check(self) -> None:
        """Check the data and the given weights, before any expensive computation.

        Raises:
            UserError: for too few images, a size that the networks do not accept, missing or invalid weights, or
                operators that do not fit the images.
        """
        self.check_operators()
        self.data.split(self.split).first(self.num_images)
        if (allocation := self.allocation_stage()) is not None:
            allocation.check()
        for matched in self.matched_stages():
            matched.data.split(matched.split).first(matched.num_images)
        self._check_chain(self.prior_stage().levels(), self.autoencoder_stage().latent_shape())
        if (trained := self.severity_stage()) is not None:
            trained.check()
        if (fitted := self.estimator_stage()) is not None:
            fitted.check()
        self.check_recalibration()
        if (known := self.non_blind_stage()) is not None:
            known.check()
        if self.lpips.backbone is not None and self.has_lpips:
            load_lpips(self.lpips)
        self.check_metrics()

    def check_metrics(self) -> None:
        """Reject damaged weights of metrics, and figures of a set on too few test images.

        On validation images, by which others choose, a figure of a set is left out.
        """
        for metric in self.metrics:
            metric.load(self.metric_weights, self.scored_shape())
            if self.split == "test" and (few := self._too_few(metric)) is not None:
                raise UserError(f"{few}: set --num_images, or leave it out of --metrics")

    def _too_few(self, metric: Metric) -> str | None:
        if not isinstance(metric, SetMetric) or self.num_images >= metric.fewest:
            return None
        return f"{metric.kind.upper()} needs at least {metric.fewest:,} images, not {self.num_images:,}"

    def scored_shape(self) -> tuple[int, int, int]:
        """(channel, height, width) of the images that metrics see."""
        return self.data.image_shape

    def load_metrics(self, device: torch.device | str) -> tuple[dict[str, torch.nn.Module], dict[str, Absent]]:
        """The networks of the metrics other than LPIPS, and the metrics that are absent, by kind."""
        networks: dict[str, torch.nn.Module] = {}
        absent: dict[str, Absent] = {}
        for metric in self.metrics:
            few = self._too_few(metric)
            loaded = Absent(few) if few else metric.load(self.metric_weights, self.scored_shape())
            if isinstance(loaded, Absent):
                absent[metric.kind] = loaded
            elif loaded is not None:
                networks[metric.kind] = loaded.to(device)
        return networks, absent

    def check_recalibration(self) -> None:
        """Reject too few validation images for the recalibration, or for the start rule's risk."""
        stage: FitRecalibration | FitEstimator | None = self.recalibration_stage()
        if stage is None and Need.RECALIBRATION in self.start.needs:
            stage = self.estimator_stage()
        if stage is None:
            return
        stage.check()
        if isinstance(self.start, SNRMatch) and self.start.risk is not None:
            check_sample(stage.num_scores(), self.start.risk)

    def check_non_blind(self) -> None:
        """Reject too few validation images for a regression that does not ship. Raises UserError."""
        if (stage := self.non_blind_stage()) is not None and self.shipped_non_blind() is None:
            stage.check()

    def check_operators(self) -> None:
        """Reject operators that cannot measure the images, or are not differentiable if the solver needs it."""
        if (recipe := self._trained) is not None:
            recipe.degradation.check(self.data.image_shape, gradient=False)
        self.degradation.check(self.data.image_shape, gradient=self.solver.guided)

    def outdated(self, folder: Path) -> str | None:
        lacking = [metric for metric in self.metrics if (folder / f"{metric.kind}{ABSENT}").is_file()]
        for metric in lacking:
            if isinstance(metric, LPIPS):
                found = self.has_lpips and not isinstance(load_lpips(self.lpips), Absent)
            else:
                loaded = metric.load(self.metric_weights, self.scored_shape())
                found = not isinstance(loaded, Absent) and self._too_few(metric) is None
            if found:
                return f"it lacks {metric.kind.upper()}, whose weights are now available"
        return None

    @property
    def has_lpips(self) -> bool:
        """Whether LPIPS is requested and supports these images."""
        return LPIPS() in self.metrics and self.data.image_shape[0] in LPIPS_CHANNELS

    def load_lpips(self, runtime: Runtime) -> LPIPSMetric | Absent:
        """The LPIPS network on the runtime's device, loaded once per process, or why it is absent."""
        if LPIPS() not in self.metrics:
            return Absent("LPIPS is not among the metrics")
        if not self.has_lpips:
            return Absent(
                f"LPIPS compares greyscale or colour images, but these have {self.data.image_shape[0]} channels"
            )
        lpips: LPIPSMetric | Absent = runtime.loaded.get(self.lpips.identity) or load_lpips(self.lpips)
        runtime.loaded[self.lpips.identity] = lpips if isinstance(lpips, Absent) else lpips.to(runtime.device)
        return lpips

    def measurement_set(self) -> str:
        """Identifies the measurements: only results on the same set may be compared."""
        images = self.data.split(self.split).first(self.num_images)
        known = {"ids": images.fingerprint, "degradation": self.degradation.canonical(), "seed": self.seed}
        others = {} if self.severities == Uniform() else {"severities": self.severities.canonical()}
        return digest(known | others)

    @property
    def sampling_seed(self) -> int:
        """The seed of the restoration's noise: it differs between samples, while the measurements stay the same."""
        return self.seed if self.sample == 0 else seed_of(self.seed, "sample", self.sample)

    def budget(self, control: EqualCost, restorer: Restorer, runtime: Runtime) -> Budget:
        """How a control spends the cost of the start that it is compared with."""
        import pandas as pd

        frames = [pd.read_parquet(stage.ensure(runtime) / ROWS) for stage in self.matched_stages()]
        unit = restorer.unit_flops(self.data.image_shape)
        plain = unit["severity_encoder"] + unit["decoder"]
        steps = frames[0]["nfe"] / restorer.prior.calls  # a step with guidance counts two evaluations
        costs = Costs.of(steps.tolist(), frames[0]["flops"].tolist(), plain)
        columns = ("image_id", "start_variance", "severity", "s2")
        own, *val = (Outcomes(*(torch.tensor(frame[name].to_numpy()) for name in columns)) for frame in frames)
        chain = self.sampler.chain(restorer.prior.levels, restorer.autoencoder.latent_shape(self.data.image_shape))
        return spend(control, costs, chain, own, val[0] if val else None, self.sampling_seed)

    def restorer(self, runtime: Runtime, fitted: Fitted | None = None, *, shipped_statistics: bool = False) -> Restorer:
        """The restorer with everything loaded.

        Args:
            fitted: an estimator to use instead of the cell's, which must be one that is fitted.
            shipped_statistics: use what ships with the severity encoder for the start rule, where it is there, instead
                of a fit to the cell's validation images.
        """
        restorer = self._restorer(runtime, fitted, shipped_statistics)
        if isinstance(self.start, EqualCost):
            restorer.start = Spending(self.start, self.budget(self.start, restorer, runtime))
        if isinstance(self.start, Allocated) and (stage := self.allocation_stage()) is not None:
            restorer.start = Allocating(self.start, stage.load(runtime))
        return restorer

    def _restorer(self, runtime: Runtime, fitted: Fitted | None, shipped: bool) -> Restorer:
        fusion, non_blind = (self.shipped_fusion(), self.shipped_non_blind()) if shipped else (None, None)
        if non_blind is None and (regressions := self.non_blind_stage()) is not None:
            non_blind = regressions.load(runtime)
        autoencoder = self.autoencoder_stage().load(runtime)
        if fitted is None and (stage := self.estimator_stage()) is not None:
            fitted = stage.load(runtime)
        return Restorer(
            autoencoder=autoencoder,
            prior=self.prior_stage().load(runtime, weights_type(self.precision)),
            estimator=self._estimator(autoencoder, runtime) if fitted is None else fitted.estimator,
            degradation=self.degradation,
            start=self.start,
            solver=self.solver,
            sampler=self.sampler,
            seed=self.sampling_seed,
            num_draws=self.num_draws,
            num_slots=runtime.batch_size,
            slot_pixels=self.data.image_shape[1] * self.data.image_shape[2],
            fusion=self._fusion(runtime, fitted) if fusion is None else fusion,
            recalibration=self._recalibration(runtime, fitted),
            non_blind=non_blind,
            guess=self.severity_encoder.guess if isinstance(self.severity_encoder, NoEncoder) else "view",
            precision=self.precision,
            say=runtime.progress.say,
            counted=runtime.loaded.setdefault(f"FLOPs {self._architecture()}", {}),
            measured=runtime.loaded.setdefault(f"memory {self._architecture()}", {}),
        )

    def _fusion(self, runtime: Runtime, fitted: Fitted | None) -> Fusion | None:
        if fitted is not None:
            return fitted.fusion() if Need.FUSION in self.start.needs else None
        return None if (stage := self.fusion_stage()) is None else stage.load(runtime)

    def _recalibration(self, runtime: Runtime, fitted: Fitted | None) -> Recalibration | None:
        if fitted is not None and isinstance(self.start, SNRMatch) and Need.RECALIBRATION in self.start.needs:
            return fitted.recalibration(self.start.recalibration)
        return None if (stage := self.recalibration_stage()) is None else stage.load(runtime)

    def _estimator(self, autoencoder: Autoencoder, runtime: Runtime) -> Estimator:
        if (trained := self.severity_stage()) is not None:
            return trained.load(runtime)
        return self._untrained(autoencoder, runtime)

    def _untrained(self, autoencoder: Autoencoder, runtime: Runtime) -> Estimator:
        estimator = self.severity_encoder.build(autoencoder)
        if isinstance(estimator, torch.nn.Module):
            runtime.place(estimator.eval().requires_grad_(False))
        return estimator

    def _architecture(self) -> str:
        """Identifies the networks by all that their FLOPs depend on; built-in encoders are like the autoencoder's."""
        encoder = self.severity_encoder
        is_like_the_autoencoder = ":" not in encoder.kind and not isinstance(encoder, Reconstructor)
        estimator = encoder.kind if is_like_the_autoencoder else encoder.identity
        return " ".join([self.autoencoder_stage().identity, self.prior_stage().identity, estimator])

    def work(self, folder: Path, runtime: Runtime) -> None:
        scoring, streams = restore_all(self, folder, runtime)
        write_sorted(streams, folder / ROWS, by="image_id")
        for stream in streams:
            stream.unlink()
        scoring.save_examples(folder / EXAMPLES)
        if figures := scoring.figures_of_set():
            (folder / SET_METRICS).write_text(json.dumps(figures, indent=2))
        for kind, metric in scoring.absent.items():
            (folder / f"{kind}{ABSENT}").write_text(metric.reason)

    def stream(self, folder: Path, number: int) -> Path:
        """The file of the rows of a part, while it is written."""
        return folder / f"{ROWS}{f'-{number}' if number else ''}{PARTIAL}"

    def restore_part(self, stream: Path, runtime: Runtime, number: int, num_parts: int) -> Scoring:
        """Restore every num_parts-th image, beginning with the one at `number`, and write its row to `stream`."""
        restorer = fitting_memory(self.restorer(runtime), self.data.image_shape)
        images = self.data.split(self.split).first(self.num_images)
        lpips = self.load_lpips(runtime)
        networks, absent = self.load_metrics(runtime.device)
        if LPIPS() in self.metrics and isinstance(lpips, Absent):
            absent["lpips"] = lpips
        scoring = Scoring(self, restorer, images, lpips, runtime, networks, absent)
        scoring.index = scoring.index[number::num_parts]
        num_rows, nfe = 0, 0
        with RowStream(stream) as rows, runtime.progress.task(f"restoring: {self.label}") as update:
            for restored in restorer.restore(scoring.measurements(restorer.num_slots), scoring.clean_latents):
                rows.extend(scoring.rows(restored))
                num_rows, nfe = num_rows + len(restored), nfe + int(restored.nfe.sum())
                update(num_rows, len(scoring.index), f"mean {nfe / num_rows:.0f} NFE")
        return scoring
