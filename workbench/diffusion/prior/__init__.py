"""Priors, one file for each kind."""

from typing import Annotated

from workbench.core.families import Open
from workbench.diffusion.prior.base import Prior, PriorRecipe
from workbench.diffusion.prior.unet import UNetPrior, UNetRecipe, load_prior

AnyPrior = Annotated[UNetRecipe, Open(PriorRecipe)]
"""Every kind of prior. With a second one of ours it becomes a union that `kind` tells apart; stored results without a
`kind` are UNets."""

__all__ = ["AnyPrior", "Prior", "PriorRecipe", "UNetPrior", "UNetRecipe", "load_prior"]
