"""The noise levels of a prior, one file per kind, and the chain through them."""

from workbench.diffusion.noise_levels.base import Chain, NoiseLevels, snr
from workbench.diffusion.noise_levels.ddpm import DDPMLevels, spaced_timesteps
from workbench.diffusion.noise_levels.edm import EDMLevels
from workbench.diffusion.noise_levels.flow import DynamicShift, FlowLevels, Shift

__all__ = [
    "Chain",
    "DDPMLevels",
    "DynamicShift",
    "EDMLevels",
    "FlowLevels",
    "NoiseLevels",
    "Shift",
    "snr",
    "spaced_timesteps",
]
