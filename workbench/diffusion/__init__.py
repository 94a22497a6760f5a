"""Latent diffusion: schedule, prior and the reverse step."""

from workbench.diffusion.prior import Prior, PriorRecipe, load_prior
from workbench.diffusion.sampler import DDIM, DDPM, Sampler, diffuse
from workbench.diffusion.schedule import Schedule

__all__ = ["DDIM", "DDPM", "Prior", "PriorRecipe", "Sampler", "Schedule", "diffuse", "load_prior"]
