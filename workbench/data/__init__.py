"""Image sources, their splits and fingerprints."""

from typing import Annotated

from pydantic import Field

from workbench.core.families import Open
from workbench.data.base import ImageSource, ImageSplit, Split, split_of
from workbench.data.chest_mr import ChestMR
from workbench.data.cifar10 import CIFAR10
from workbench.data.eurosat import EuroSAT
from workbench.data.fashion_mnist import FashionMNIST
from workbench.data.hugging_face import HuggingFace
from workbench.data.image_folder import ImageFolder
from workbench.data.imagenette import Imagenette
from workbench.data.no_images import NoImages
from workbench.data.npy import Npy
from workbench.data.spoken_digits import SpokenDigits
from workbench.data.tiny_imagenet import TinyImageNet
from workbench.data.wav_folder import WavFolder

Source = Annotated[
    FashionMNIST
    | CIFAR10
    | TinyImageNet
    | Imagenette
    | EuroSAT
    | ChestMR
    | SpokenDigits
    | HuggingFace
    | ImageFolder
    | Npy
    | WavFolder
    | NoImages,
    Field(discriminator="kind"),
    Open(ImageSource),
]

__all__ = [
    "CIFAR10",
    "ChestMR",
    "EuroSAT",
    "FashionMNIST",
    "HuggingFace",
    "ImageFolder",
    "ImageSource",
    "ImageSplit",
    "Imagenette",
    "NoImages",
    "Npy",
    "Source",
    "Split",
    "SpokenDigits",
    "TinyImageNet",
    "WavFolder",
    "split_of",
]
