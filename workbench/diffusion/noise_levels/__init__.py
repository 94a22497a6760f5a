"""The noise levels of a prior, one file for each kind, and the chain through them that all else sees."""

from workbench.diffusion.noise_levels.base import Chain, NoiseLevels, snr
from workbench.diffusion.noise_levels.ddpm import DDPMLevels, spaced_timesteps

__all__ = ["Chain", "DDPMLevels", "NoiseLevels", "snr", "spaced_timesteps"]
