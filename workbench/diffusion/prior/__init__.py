"""Priors, one file per kind."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from workbench.core.families import Open
from workbench.diffusion.prior.base import Prior, PriorRecipe, PriorSource
from workbench.diffusion.prior.pretrained import PretrainedPrior
from workbench.diffusion.prior.unet import UNetPrior, UNetRecipe, load_prior


def _named(prior: Any) -> Any:
    """Stored results without a `kind` are UNets: when they were identified, there was no other."""
    return {"kind": "unet", **prior} if isinstance(prior, Mapping) else prior


AnyPrior = Annotated[
    UNetRecipe | PretrainedPrior, Field(discriminator="kind"), Open(PriorSource), BeforeValidator(_named)
]
"""All kinds of priors."""

__all__ = [
    "AnyPrior",
    "PretrainedPrior",
    "Prior",
    "PriorRecipe",
    "PriorSource",
    "UNetPrior",
    "UNetRecipe",
    "load_prior",
]
