"""Degradations: forward operators with a severity per image, one file each."""

from typing import Annotated

from pydantic import Field

from workbench.core.families import Open
from workbench.degradations.at_severity import AtSeverity, members_of
from workbench.degradations.audio_clipping import AudioClipping
from workbench.degradations.audio_noise import AudioNoise
from workbench.degradations.bandwidth import Bandwidth
from workbench.degradations.base import Degradation
from workbench.degradations.clipping import Clipping
from workbench.degradations.compose import Compose
from workbench.degradations.ct import CT
from workbench.degradations.deepinv_physics import DeepinvPhysics
from workbench.degradations.drawing_severity import DrawsSeverity
from workbench.degradations.equivalents import nearest_equivalent
from workbench.degradations.gaussian_blur import GaussianBlur
from workbench.degradations.gaussian_noise import GaussianNoise
from workbench.degradations.given_physics import GivenPhysics
from workbench.degradations.haze import Haze
from workbench.degradations.jpeg import JPEG
from workbench.degradations.mixture import Mixture
from workbench.degradations.motion_blur_crf import MotionBlurCRF
from workbench.degradations.mri import MRI
from workbench.degradations.packet_loss import PacketLoss
from workbench.degradations.phase_retrieval import PhaseRetrieval
from workbench.degradations.poisson import Poisson
from workbench.degradations.pseudo_inverse import pseudo_inverse
from workbench.degradations.quantisation import Quantisation
from workbench.degradations.random_inpainting import RandomInpainting
from workbench.degradations.severities import AnySeverityDistribution, Skewed, TwoPoint, Uniform
from workbench.degradations.sound import Sound
from workbench.degradations.super_resolution import SuperResolution

AnyDegradation = Annotated[DrawsSeverity | AtSeverity, Field(discriminator="kind"), Open(Degradation)]

__all__ = [
    "CT",
    "JPEG",
    "MRI",
    "AnyDegradation",
    "AnySeverityDistribution",
    "AtSeverity",
    "AudioClipping",
    "AudioNoise",
    "Bandwidth",
    "Clipping",
    "Compose",
    "DeepinvPhysics",
    "Degradation",
    "GaussianBlur",
    "GaussianNoise",
    "GivenPhysics",
    "Haze",
    "Mixture",
    "MotionBlurCRF",
    "PacketLoss",
    "PhaseRetrieval",
    "Poisson",
    "Quantisation",
    "RandomInpainting",
    "Skewed",
    "Sound",
    "SuperResolution",
    "TwoPoint",
    "Uniform",
    "members_of",
    "nearest_equivalent",
    "pseudo_inverse",
]
