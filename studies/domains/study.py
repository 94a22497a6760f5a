"""Does severity encoding work beyond linear operators on photographs?

Each domain has its own latent diffusion model: medical slices (magnetic resonance and tomography), sound (spoken
digits) and, for highly nonlinear operators, photographs. For each operator, a severity encoder is fitted to it in a
minute, and every measurement is restored from matched starts, from pure noise and from starts that are the same for all
images. Asked are, per operator: does the predicted variance order the true error, and is it right; does the matched
start save evaluations at equal quality against pure noise; what does it gain over the best of the fixed starts at equal
cost; is the latent error white and Gaussian.
Expected: the estimate and its variance carry over wherever y determines most of the image; where an operator leaves an
image ambiguous, the error is far from Gaussian and starts lose their advantage.

The MR slices are magnitude images, so k-space simulated from them has no phase of its own, which flatters the method.
The sinograms are of the same slices, scaled to [0, 1], not of X-ray densities.

Sound is restored as images of its MDCT and judged by SI-SDR. Presets medicine, nonlinear and sound are parts of desk.

Cost: an hour on two cores (desk), half a minute (smoke).
Run: python -m workbench study domains
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from studies import _photos
from studies._domains import CHEST_AUTOENCODER, CHEST_MR, CHEST_PRIOR, SPEECH, SPEECH_AUTOENCODER, SPEECH_PRIOR
from studies.domains import sections
from studies.domains.results import read
from workbench.autoencoders import AnyAutoencoder
from workbench.data import FashionMNIST, Source
from workbench.degradations import (
    CT,
    MRI,
    AudioClipping,
    AudioNoise,
    Bandwidth,
    Clipping,
    Degradation,
    PacketLoss,
    PhaseRetrieval,
    Poisson,
    Quantisation,
)
from workbench.diffusion import AnyPrior
from workbench.experiments.study import Axes, Preset, Study
from workbench.metrics import LPIPS, PSNR, SISDR, SSIM, LatentError, LogSpectralDistance, Metric, Residual
from workbench.severity.quick import Quick
from workbench.severity.start import SNRMatch
from workbench.solvers import MMPS
from workbench.stages.measure.evaluate import Evaluate

NUM_STEPS = 30
"""Of the whole chain: half as many as `restore` takes on photographs."""
NFE = (2, 4, 8, 16)
"""Of the fixed starts, among which those of equal cost are interpolated."""
MATCH = SNRMatch(variance="fused", channel="mmse")
QUICK = Quick()
METRICS: Sequence[Metric] = (PSNR(), SSIM(), Residual(), LPIPS(), LatentError())
OF_SOUND: Sequence[Metric] = (PSNR(), SISDR(), LogSpectralDistance(), Residual(), LatentError())


@dataclass(frozen=True)
class Domain:
    """A latent diffusion model and the operators that are asked about."""

    data: Source
    autoencoder: AnyAutoencoder
    prior: AnyPrior
    operators: Sequence[Degradation]
    encoder: Quick = QUICK
    metrics: Sequence[Metric] = METRICS


MEDICINE = Domain(CHEST_MR, CHEST_AUTOENCODER, CHEST_PRIOR, (MRI(noise_std=0.02),))
TOMOGRAPHY = replace(
    MEDICINE,
    operators=(CT(noise_std=0.02),),
    encoder=Quick(num_images=1_000, num_train_images=4_000),  # a projection takes longer than a step of the descent
)
NONLINEAR = Domain(_photos.PHOTOGRAPHS, _photos.AUTOENCODER, _photos.PRIOR, (Clipping(), Quantisation(), Poisson()))
WITHOUT_PHASE = replace(
    NONLINEAR,
    operators=(PhaseRetrieval(noise_std=0.02),),
    encoder=Quick(num_images=500, num_train_images=2_000),  # each measurement takes hybrid input-output
)
SOUND = Domain(
    SPEECH,
    SPEECH_AUTOENCODER,
    SPEECH_PRIOR,
    (AudioNoise(), AudioClipping(), Bandwidth(), PacketLoss()),
    metrics=OF_SOUND,
)


def cells(domain: Domain, num_steps: int = NUM_STEPS, nfe: Sequence[int] = NFE) -> list[Axes]:
    """Every start on every operator; pictures are of the matched one."""
    step = 1000 / num_steps
    shared: Axes = {
        "data": (domain.data,),
        "autoencoder": (domain.autoencoder,),
        "prior": (domain.prior,),
        "degradation": domain.operators,
        "severity_encoder": (domain.encoder,),
        "metrics": (tuple(domain.metrics),),
        "sampler.num_steps": (num_steps,),
    }
    no_pictures: Axes = {"num_examples": (0,)}  # the page shows those of the matched start
    return [
        {**shared, "start": (MATCH,)},
        {**shared, "start.kind": ("full",), **no_pictures},
        {**shared, "start.kind": ("missing_noise",), "start.nfe": tuple(nfe), "start.of": (MATCH,), **no_pictures},
        {
            **shared,
            "start.kind": ("fixed",),
            "start.timestep": tuple(round(n * step) for n in nfe),
            **no_pictures,
        },
    ]


def preset(domains: Sequence[Domain], overrides: Mapping[str, Any], **sizes: Any) -> Preset:
    """The cells of several domains."""
    first, *others = [axes for domain in domains for axes in cells(domain, **sizes)]
    return Preset(overrides, axes=first, grids=others)


DESK = {"num_images": 32, "num_examples": 3}
SMALL = Evaluate()
SMOKE = Domain(
    FashionMNIST(),
    SMALL.autoencoder,
    SMALL.prior,
    (MRI(noise_std=0.02), Poisson()),
    Quick(num_images=90, num_train_images=128),
)

study = Study(
    cell=Evaluate(severity_encoder=QUICK, start=MATCH, solver=MMPS(share=4), metrics=METRICS),
    axes={},
    columns={
        "data": "domain",
        "autoencoder": None,
        "prior": None,
        "severity_encoder": None,
        "metrics": None,
        "sampler.num_steps": None,
        "start": None,
        "start.of": None,
        "start.kind": "rule",
        "start.nfe": None,
        "start.timestep": "timestep",  # of others their label
        "num_examples": None,
    },
    presets={
        "smoke": preset(
            [SMOKE],
            {
                "num_images": 4,
            },
            num_steps=6,
            nfe=(2, 4),
        ),
        "desk": preset([MEDICINE, TOMOGRAPHY, NONLINEAR, WITHOUT_PHASE, SOUND], DESK),
        "medicine": preset([MEDICINE, TOMOGRAPHY], DESK),
        "nonlinear": preset([NONLINEAR, WITHOUT_PHASE], DESK),
        "sound": preset([SOUND], DESK),
    },
    results=read,
    answer=sections.answer,
    main_figure=sections.main_figure,
    example=sections.example,
    report=(sections.domains_section, sections.starts_section, sections.errors_section),
)
