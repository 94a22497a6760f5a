"""The solvers study at the scale of the paper: 256 px faces and the authors' settings, for a GPU.

Of latent diffusion, the paper takes the model for CelebA-HQ of Rombach et al. (arXiv 2112.10752), VQ with a factor of
4: a folder with `vqvae/`, `unet/` and `scheduler/`, such as CompVis/ldm-celebahq-256 of the model hub. Its prior knows
latents as the autoencoder makes them, so `scaling_factor` in `vqvae/config.json` must be 1 (diffusers' default for a
config without one is 0.18215; see diffusers' issue 6725). It restores 200 faces of FFHQ.

Step sizes and the starts' c are those of the authors' published configurations (github.com/z-fabian/flash-diffusion),
data steps doubled since residuals here are on [0, 1]. `motion_blur_crf` stands for their neural nonlinear blur, with
its settings.
"""

from collections.abc import Mapping
from typing import Any

from studies._cells import matched
from workbench.autoencoders import VQ
from workbench.data import ImageFolder
from workbench.degradations import Degradation, GaussianBlur, MotionBlurCRF, RandomInpainting
from workbench.diffusion import PriorRecipe
from workbench.severity.start import Full, Official, SNRMatch
from workbench.solvers import GMLDPS, LDPS, PSLD, DecodeOnly, ReSample, Solver
from workbench.study import Axes, Preset

FACES, MODEL = "data/ffhq", "data/ldm-celebahq-256"
"""Where images and model are looked for; --data.path, --autoencoder.source and --prior.source name other places."""


def resample(gamma: float) -> ReSample:
    """As Flash-Diffusion's authors run it: DDPM, consistency at every 10th of 500 steps, at most 100 iterations."""
    return ReSample(every=10, gamma=gamma, image_learning_rate=5e-3, latent_learning_rate=5e-3, max_iterations=100)


SETTINGS: Mapping[Degradation, Mapping[Solver, float]] = {
    GaussianBlur(): {
        LDPS(guidance_scale=2.0): 1.2,
        GMLDPS(guidance_scale=6.0, weight=0.05): 1.2,
        PSLD(guidance_scale=4.0, weight=0.2): 1.0,
        resample(gamma=400.0): 1.2,
    },
    RandomInpainting(): {
        LDPS(guidance_scale=14.0): 1.2,
        GMLDPS(guidance_scale=20.0, weight=0.05): 1.0,
        PSLD(guidance_scale=20.0, weight=0.5): 1.0,
        resample(gamma=200.0): 1.2,
    },
    MotionBlurCRF(): {
        LDPS(guidance_scale=2.0): 1.0,
        GMLDPS(guidance_scale=6.0, weight=0.05): 1.2,
        resample(gamma=200.0): 1.2,
    },
}
"""The c of the authors' start rule, by degradation and solver."""


def cells_of(degradation: Degradation, solver: Solver, c: float) -> list[Axes]:
    """One solver as published: DDPM's 1000 steps, or 500 for ReSample; from pure noise, c, and SNR matching."""
    num_steps = 500 if isinstance(solver, ReSample) else 1000
    common = {**matched(degradation), "solver": (solver,), "tuned": (None,), "sampler.num_steps": (num_steps,)}
    starts = (Full(), Official(c=c), SNRMatch(variance="encoder"))
    return [
        {**common, "start": starts, "sampler.eta": (1.0,)},
        {**common, "start.kind": ("fixed",), "start.timestep": (200, 400), "sampler.eta": (1.0,)},
    ]


def preset() -> Preset:
    """Every pair with its published settings, and the decoded estimate."""
    first, *others = [
        axes
        for degradation, solvers in SETTINGS.items()
        for solver, c in solvers.items()
        for axes in cells_of(degradation, solver, c)
    ]
    decoded = [matched(d, solver=(DecodeOnly(),), tuned=(None,), sampler__num_steps=(1000,)) for d in SETTINGS]
    overrides: dict[str, Any] = {
        "data": ImageFolder(path=FACES, size=256, channels=3),
        "autoencoder": VQ(source=f"{MODEL}/vqvae"),
        "prior": PriorRecipe(source=MODEL),
        "num_images": 200,
        "severity_encoder.num_train_images": 1_000_000,
        "severity_encoder.batch_size": 32,
        "severity_encoder.learning_rate": 1e-4,
    }
    return Preset(overrides=overrides, axes=first, grids=[*others, *decoded])
