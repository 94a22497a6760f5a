"""Priors, one file for each kind."""

from typing import TypeAlias

from workbench.diffusion.prior.base import Prior, PriorRecipe
from workbench.diffusion.prior.unet import UNetPrior, UNetRecipe, load_prior

AnyPrior: TypeAlias = UNetRecipe
"""Every kind of prior. With a second one it becomes a union that `kind` tells apart; stored results without a `kind`
are UNets."""

__all__ = ["AnyPrior", "Prior", "PriorRecipe", "UNetPrior", "UNetRecipe", "load_prior"]
