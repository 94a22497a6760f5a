"""The degradations that draw a severity per image: all but `at_severity`, which wraps one of them."""

from workbench.degradations.audio_clipping import AudioClipping
from workbench.degradations.audio_noise import AudioNoise
from workbench.degradations.bandwidth import Bandwidth
from workbench.degradations.clipping import Clipping
from workbench.degradations.compose import Compose
from workbench.degradations.ct import CT
from workbench.degradations.deepinv_physics import DeepinvPhysics
from workbench.degradations.gaussian_blur import GaussianBlur
from workbench.degradations.gaussian_noise import GaussianNoise
from workbench.degradations.haze import Haze
from workbench.degradations.jpeg import JPEG
from workbench.degradations.mixture import Mixture
from workbench.degradations.motion_blur_crf import MotionBlurCRF
from workbench.degradations.mri import MRI
from workbench.degradations.packet_loss import PacketLoss
from workbench.degradations.phase_retrieval import PhaseRetrieval
from workbench.degradations.poisson import Poisson
from workbench.degradations.quantisation import Quantisation
from workbench.degradations.random_inpainting import RandomInpainting
from workbench.degradations.super_resolution import SuperResolution

DrawsSeverity = (
    GaussianBlur
    | RandomInpainting
    | MotionBlurCRF
    | GaussianNoise
    | SuperResolution
    | JPEG
    | Haze
    | MRI
    | CT
    | Clipping
    | Quantisation
    | Poisson
    | AudioNoise
    | AudioClipping
    | Bandwidth
    | PacketLoss
    | PhaseRetrieval
    | Compose
    | DeepinvPhysics
    | Mixture
)
