"""The solvers study at the scale of the paper: 256 px faces and the authors' settings, for a GPU.

Of latent diffusion, the paper takes the model for CelebA-HQ of Rombach et al. (arXiv 2112.10752), VQ with a factor of
4: a folder with `vqvae/`, `unet/` and `scheduler/`, such as CompVis/ldm-celebahq-256 of the model hub. Its prior knows
latents as the autoencoder makes them, so `scaling_factor` in `vqvae/config.json` must be 1 (diffusers' default for a
config without one is 0.18215; see diffusers' issue 6725). It restores 200 faces of FFHQ.

Solvers, starts' c, sampler and the severity encoder's loss are those of the authors' published configurations
(github.com/z-fabian/flash-diffusion), in this workbench's units: data steps are doubled, since residuals here are on
[0, 1] and theirs on [-1, 1]; Adam's learning rate for images is halved, as its steps are lengths; the weight of the
image term is 16 for their 1 (see `SeverityLoss`). As theirs, dropped pixels count as zeros that were measured, with
noise. Known differences that remain:

- `motion_blur_crf` stands for their neural nonlinear blur, with its settings.
- Severities are uniform on [0, 1]: 0 to 90 % of the pixels dropped. Theirs, in tests of inpainting, are 70 to 80 %.
- Blur repeats the edge pixel at the border; theirs reflects.
- The severity encoder learns from FFHQ and 1,000,000 images; theirs from CelebA-HQ, in 100 epochs.
- ReSample's start on its grid of 500 steps: see `Official`.
"""

from collections.abc import Mapping
from typing import Any

from studies._cells import matched
from workbench.autoencoders import VQ
from workbench.data import ImageFolder
from workbench.degradations import Degradation, GaussianBlur, MotionBlurCRF, RandomInpainting
from workbench.diffusion import UNetRecipe
from workbench.experiments.study import Axes, Preset
from workbench.severity.loss import SeverityLoss
from workbench.severity.start import Official, SNRMatch
from workbench.solvers import GMLDPS, LDPS, PSLD, DecodeOnly, ReSample, Solver

FACES, MODEL = "data/ffhq", "data/ldm-celebahq-256"
"""Where images and model are looked for; --data.path, --autoencoder.source and --prior.source name other places."""
AUTHORS_BATCH, AUTHORS_IMAGE_WEIGHT = 4, 1.0
"""Images on each of their 8 devices, and the weight of their image term, which is summed over these."""
INPAINTING = RandomInpainting(dropped="as_zeros")


def resample(gamma: float) -> ReSample:
    """As Flash-Diffusion's authors run it: consistency at every 10th of 500 steps, the last included.

    On images at t = 301 ... 750 of T = 1000 and on latents below, by at most 100 of Adam's steps of 0.1 on [-1, 1] and
    in latents, beside a squared distance from z0_hat of weight 1.
    """
    return ReSample(
        every=10,
        correct_last=True,
        image_log_snr=-4.77,  # t = 750 and 300
        latent_log_snr=-0.37,
        gamma=gamma,
        resampling="flash",
        proximity=1.0,
        image_learning_rate=0.05,
        latent_learning_rate=0.1,
        max_iterations=100,
    )


SETTINGS: Mapping[Degradation, Mapping[Solver, float]] = {
    GaussianBlur(): {
        LDPS(guidance_scale=2.0): 1.2,
        GMLDPS(guidance_scale=6.0, weight=0.05): 1.2,
        PSLD(guidance_scale=4.0, weight=0.2): 1.0,
        resample(gamma=400.0): 1.2,
    },
    INPAINTING: {
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


def preset() -> Preset:
    """Every pair with its published settings, from pure noise, c, SNR matching and fixed timesteps; and decoded alone.

    All 1000 steps of DDPM; for ReSample 500 steps of latent diffusion's DDIM with eta = 1, which ends at timestep 0.
    """
    grids: list[Axes] = []
    for degradation, solvers in SETTINGS.items():
        for solver, c in solvers.items():
            num_steps, clean_end = (500, False) if isinstance(solver, ReSample) else (1000, True)
            common = {
                **matched(degradation, solver=(solver,), tuned=(None,), sampler__num_steps=(num_steps,)),
                "sampler.eta": (1.0,),
                "sampler.clean_end": (clean_end,),
            }
            grids += [
                # by `start.kind`, which the study's own axes name too: theirs lie under a preset's first grid
                {**common, "start.kind": ("full",)},
                {**common, "start": (Official(c=c), SNRMatch(variance="encoder"))},
                {**common, "start.kind": ("fixed",), "start.timestep": (200, 400)},
            ]
    grids += [matched(d, solver=(DecodeOnly(),), tuned=(None,), sampler__num_steps=(1000,)) for d in SETTINGS]
    overrides: dict[str, Any] = {
        "data": ImageFolder(path=FACES, size=256, channels=3),
        "autoencoder": VQ(source=f"{MODEL}/vqvae"),
        "prior": UNetRecipe(source=MODEL),
        "num_images": 200,
        "severity_encoder.num_train_images": 1_000_000,
        "severity_encoder.batch_size": 32,
        "severity_encoder.learning_rate": 1e-4,
        "severity_encoder.loss": SeverityLoss(
            variance_term="squared_difference",
            weight_variance=1.0,
            weight_image=4 * AUTHORS_BATCH * AUTHORS_IMAGE_WEIGHT,
        ),
    }
    return Preset(overrides=overrides, axes=grids[0], grids=grids[1:])
