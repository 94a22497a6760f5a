"""Trains the latent diffusion models that ship: an autoencoder and a prior over its latents, for each family.

The other studies use the shipped pair, since the method takes advantage of pretrained latent diffusion models; this one
makes it, with a model card that holds what was measured. To ship a new one, copy its folder to data/zoo.

Cost: about an hour on two cores (desk: tiny), four minutes (smoke), five hours (full: all of them). A preset of an
autoencoder's name makes that one, photos the pair for colour photographs, chest_mr that for MR slices, and
spoken_digits that for sound.

Run: python -m workbench study zoo --preset kl
"""

from studies._autoencoders import AUTOENCODERS, prior_of
from studies._domains import CHEST_AUTOENCODER, CHEST_MR, CHEST_PRIOR, SPEECH, SPEECH_AUTOENCODER, SPEECH_PRIOR
from studies._photos import AUTOENCODER, PHOTOGRAPHS, PRIOR
from studies.zoo.card import export
from workbench.autoencoders import ArchitectureRecipe, Tiny
from workbench.data import FashionMNIST
from workbench.diffusion import UNetRecipe
from workbench.experiments.study import Axes, Preset, Study
from workbench.stages.train.train_prior import TrainPrior


def pair(recipe: ArchitectureRecipe) -> Axes:
    """An autoencoder and its prior, trained whether they ship or not."""
    return {"autoencoder": (recipe.replace(source="train"),), "prior": (prior_of(recipe).replace(source="train"),)}


FIRST, *FURTHER = map(pair, AUTOENCODERS)

study = Study(
    cell=TrainPrior(data=FashionMNIST(), autoencoder=Tiny(source="train"), prior=UNetRecipe(source="train")),
    axes=FIRST,
    columns={"prior": None},  # the one of the autoencoder
    presets={
        "smoke": Preset({"autoencoder.num_train_images": 512, "prior.num_train_images": 512}, grids=FURTHER),
        "desk": Preset(),
        "full": Preset(grids=FURTHER),
        **{recipe.kind: Preset(axes=pair(recipe)) for recipe in AUTOENCODERS},
        "photos": Preset(
            axes={
                "data": (PHOTOGRAPHS,),
                "autoencoder": (AUTOENCODER.replace(source="train"),),
                "prior": (PRIOR.replace(source="train"),),
            }
        ),
        "chest_mr": Preset(
            axes={
                "data": (CHEST_MR,),
                "autoencoder": (CHEST_AUTOENCODER.replace(source="train"),),
                "prior": (CHEST_PRIOR.replace(source="train"),),
            }
        ),
        "spoken_digits": Preset(
            axes={
                "data": (SPEECH,),
                "autoencoder": (SPEECH_AUTOENCODER.replace(source="train"),),
                "prior": (SPEECH_PRIOR.replace(source="train"),),
            }
        ),
    },
    finish=export,
)
