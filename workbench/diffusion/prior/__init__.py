"""Priors, one file per kind."""

from typing import Annotated

from workbench.core.families import Open
from workbench.diffusion.prior.base import Prior, PriorRecipe
from workbench.diffusion.prior.unet import UNetPrior, UNetRecipe, load_prior

AnyPrior = Annotated[UNetRecipe, Open(PriorRecipe)]
"""All kinds of priors. With a second built-in kind this becomes a union discriminated by `kind`; stored results without
a `kind` are UNets."""

__all__ = ["AnyPrior", "Prior", "PriorRecipe", "UNetPrior", "UNetRecipe", "load_prior"]
