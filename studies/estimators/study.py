"""How good is a severity encoder that is fitted to the operator in a minute?

Each degradation is restored from three estimates: E(y) with the variance that explains the residual, which needs no
training; an encoder fitted to the operator on 2,000 clean images in about a minute; and an encoder trained for the
operator on 40,000 images. The variance of the last two is checked by the residual. Expected: the residual alone loses
a dB or more where E(y) is far from the clean latent, and is over-confident for autoencoders that hide their error from
the image; the fitted encoder is within a few tenths of a dB of the trained one, and calibrated.

Other autoencoders that ship: --preset-settings=zoo_kl. Preset `given` is for a pretrained autoencoder without a prior
(--autoencoder.kind=pretrained --autoencoder.source=FOLDER): only estimates and D(z_hat) are compared, and the prior,
trained on 64 latents, takes one step whose result is not shown.

On photographs (photos) the trained encoder is the universal one that ships.

Cost: half an hour on two cores (desk, photos), most of it to train and fit encoders; 20 seconds (smoke). `given`:
minutes.
Run: python -m workbench study estimators
"""

from collections.abc import Sequence

from studies import _photos
from studies._cells import SMOKE
from studies.estimators import sections
from studies.estimators.results import read
from studies.robustness.study import FAMILIES
from workbench.degradations import Degradation
from workbench.experiments.study import Axes, Preset, Study
from workbench.severity.quick import Quick
from workbench.severity.recipe import SeverityRecipe
from workbench.severity.start import SNRMatch
from workbench.severity.untrained import NoEncoder
from workbench.stages.measure.evaluate import Evaluate

NUM_TRAIN_IMAGES = 40_000
WITHOUT_PRIOR = {"prior.num_train_images": 64, "sampler.num_steps": 1, "solver.kind": "no_guidance"}
"""Overrides for an autoencoder without a prior: one that is not trained, of which nothing is used."""


def residual(families: Sequence[Degradation]) -> Axes:
    """E(y), without training."""
    return {"severity_encoder": (NoEncoder(),), "degradation": families, "start": (SNRMatch(variance="residual"),)}


def quick(families: Sequence[Degradation]) -> Axes:
    """Fitted in a minute."""
    start = SNRMatch(variance="fused", channel="mmse")
    return {"severity_encoder": (Quick(),), "degradation": families, "start": (start,)}


def trained(families: Sequence[Degradation]) -> list[Axes]:
    """Trained for each degradation."""
    return [
        {
            "severity_encoder": (
                SeverityRecipe(degradation=family, num_train_images=NUM_TRAIN_IMAGES, precision="bf16"),
            ),
            "degradation": (family,),
            "start": (SNRMatch(variance="fused"),),
        }
        for family in families
    ]


def universal(families: Sequence[Degradation]) -> Axes:
    """Trained for all of them, on photographs: the encoder that ships."""
    return {
        "severity_encoder": (_photos.UNIVERSAL,),
        "degradation": families,
        "start": (SNRMatch(variance="fused"),),
    }


study = Study(
    cell=Evaluate(),
    axes=residual(FAMILIES),
    columns={"severity_encoder": "estimator", "start": None},
    presets={
        "smoke": Preset(SMOKE, residual(FAMILIES[:1]), (quick(FAMILIES[:1]), *trained(FAMILIES[:1]))),
        "desk": Preset(grids=(quick(FAMILIES), *trained(FAMILIES))),
        "photos": Preset(
            {**_photos.PHOTOS, "num_images": 64, "num_examples": 0}, grids=(quick(FAMILIES), universal(FAMILIES))
        ),
        "given": Preset(WITHOUT_PRIOR, grids=(quick(FAMILIES),)),
    },
    results=read,
    answer=sections.answer,
    main_figure=None,
    report=(sections.restored, sections.estimates),
)
