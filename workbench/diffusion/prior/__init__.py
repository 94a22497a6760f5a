"""Priors, one file per kind."""

from typing import TypeAlias

from workbench.diffusion.prior.base import Prior, PriorRecipe
from workbench.diffusion.prior.unet import UNetPrior, UNetRecipe, load_prior

AnyPrior: TypeAlias = UNetRecipe
"""All kinds of priors. With a second kind this becomes a union discriminated by `kind`; stored results without a `kind`
are UNets."""

__all__ = ["AnyPrior", "Prior", "PriorRecipe", "UNetPrior", "UNetRecipe", "load_prior"]
