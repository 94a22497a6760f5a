"""Metrics: one number an image, and statistics over images."""

from workbench.metrics.perceptual import Absent, LPIPSConfig, LPIPSMetric, load_lpips
from workbench.metrics.reconstruction import psnr, ssim
from workbench.metrics.statistics import Estimate, mean_interval, paired_difference, ratio_of_means, spearman

__all__ = [
    "Absent",
    "Estimate",
    "LPIPSConfig",
    "LPIPSMetric",
    "load_lpips",
    "mean_interval",
    "paired_difference",
    "psnr",
    "ratio_of_means",
    "spearman",
    "ssim",
]
