"""Trains the latent diffusion models that ship: an autoencoder and a prior over its latents, for each family.

The other studies use the shipped pair, since the method takes advantage of pretrained latent diffusion models; this one
makes it, with a model card that holds what was measured. To ship a new one, copy its folder to data/zoo.

Cost: about an hour on two cores (desk), an hour an autoencoder (full), four minutes (smoke).
Run: python -m workbench study zoo
"""

from studies._autoencoders import AUTOENCODERS
from studies._zoo_card import export
from workbench.autoencoders import Tiny
from workbench.data import FashionMNIST
from workbench.diffusion import PriorRecipe
from workbench.stages.train_prior import TrainPrior
from workbench.study import Preset, Study

EVERY = tuple(recipe.replace(source="train") for recipe in AUTOENCODERS)

study = Study(
    cell=TrainPrior(data=FashionMNIST(), autoencoder=Tiny(source="train"), prior=PriorRecipe(source="train")),
    axes={"autoencoder": (Tiny(source="train"),)},
    presets={
        "smoke": Preset(
            {"autoencoder.num_train_images": 512, "prior.num_train_images": 512},
            {"autoencoder": EVERY},
        ),
        "desk": Preset(),
        "full": Preset(axes={"autoencoder": EVERY}),
    },
    finish=export,
)
