"""Metrics: one number per image, statistics over images, and the similarity of sets of latents."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from workbench.core.families import Open, named
from workbench.metrics.coverage import severity_bins, violation_rate, violation_rates
from workbench.metrics.family import Comparison, Metric, SetMetric
from workbench.metrics.likeness import (
    Moments,
    frechet_distance,
    frechet_matrix,
    radial_counts,
    radial_spectrum,
    sampling_distance,
    spectral_distance,
    spectral_matrix,
)
from workbench.metrics.mantel import MantelResult, mantel_test
from workbench.metrics.members import (
    DISTS,
    FID,
    KID,
    LPIPS,
    NIQE,
    PSNR,
    SISDR,
    SSIM,
    LatentError,
    LogSpectralDistance,
    Residual,
    SpectralAngle,
)
from workbench.metrics.ordering import ordering_accuracy, own_ordering_accuracy
from workbench.metrics.perceptual import Absent, LPIPSConfig, LPIPSMetric, load_lpips
from workbench.metrics.pretrained import MetricWeights
from workbench.metrics.ranks import (
    BesideTrivial,
    beside_trivial,
    gain_over_trivial,
    spearman,
    spearman_across,
    spearman_within,
)
from workbench.metrics.reconstruction import psnr, spectral_angle, ssim, ssim_columns, ssim_valid
from workbench.metrics.scaling import Map, average_linkage, classical_map
from workbench.metrics.sound import log_spectral_distance, si_sdr
from workbench.metrics.statistics import (
    Estimate,
    first_crossing,
    mean_interval,
    mean_intervals,
    paired_difference,
    ratio_of_means,
)

AnyMetric = Annotated[
    PSNR
    | SSIM
    | LPIPS
    | DISTS
    | NIQE
    | FID
    | KID
    | Residual
    | SpectralAngle
    | SISDR
    | LogSpectralDistance
    | LatentError,
    Field(discriminator="kind"),
    Open(Metric),
    BeforeValidator(named),
]

__all__ = [
    "DISTS",
    "FID",
    "KID",
    "LPIPS",
    "NIQE",
    "PSNR",
    "SISDR",
    "SSIM",
    "Absent",
    "AnyMetric",
    "BesideTrivial",
    "Comparison",
    "Estimate",
    "LPIPSConfig",
    "LPIPSMetric",
    "LatentError",
    "LogSpectralDistance",
    "MantelResult",
    "Map",
    "Metric",
    "MetricWeights",
    "Moments",
    "Residual",
    "SetMetric",
    "SpectralAngle",
    "average_linkage",
    "beside_trivial",
    "classical_map",
    "first_crossing",
    "frechet_distance",
    "frechet_matrix",
    "gain_over_trivial",
    "load_lpips",
    "log_spectral_distance",
    "mantel_test",
    "mean_interval",
    "mean_intervals",
    "ordering_accuracy",
    "own_ordering_accuracy",
    "paired_difference",
    "psnr",
    "radial_counts",
    "radial_spectrum",
    "ratio_of_means",
    "sampling_distance",
    "severity_bins",
    "si_sdr",
    "spearman",
    "spearman_across",
    "spearman_within",
    "spectral_angle",
    "spectral_distance",
    "spectral_matrix",
    "ssim",
    "ssim_columns",
    "ssim_valid",
    "violation_rate",
    "violation_rates",
]
