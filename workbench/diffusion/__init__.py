"""Latent diffusion: noise levels, prior and the reverse step."""

from workbench.diffusion.noise_levels import Chain, DDPMLevels, NoiseLevels
from workbench.diffusion.prior import (
    AnyPrior,
    PretrainedPrior,
    Prior,
    PriorRecipe,
    PriorSource,
    UNetPrior,
    UNetRecipe,
    load_prior,
)
from workbench.diffusion.sampler import DDIM, DDPM, Sampler, diffuse

__all__ = [
    "DDIM",
    "DDPM",
    "AnyPrior",
    "Chain",
    "DDPMLevels",
    "NoiseLevels",
    "PretrainedPrior",
    "Prior",
    "PriorRecipe",
    "PriorSource",
    "Sampler",
    "UNetPrior",
    "UNetRecipe",
    "diffuse",
    "load_prior",
]
