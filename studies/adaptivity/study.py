"""What is it worth to adapt the start of the reverse process to each image, at equal mean cost?

Every image is restored with every number of evaluations of a grid, from z_hat and the noise that it lacks there. A rule
only chooses a number for each image, so its restorations are among these. The rules: SNR matching; `allocated`, which
learns on validation images what one more evaluation is worth, by the predicted variance, the residual of D(z_hat) and
the operator, and spends a mean budget where it gains most; the same from less, from predictors that need no encoder,
and from the true variance; and matching and allocation by a variance that is corrected by the operator. The
controls know nothing of the image: one timestep with full noise (CCDF), one timestep with each image's missing noise,
variances permuted between images, the known severity and, in mixtures, a number of evaluations that is fitted to each
operator, or to each operator and severity. Two oracles bound what could be gained: each image's own curve of
quality, on the noise that is scored (in hindsight) and on other noise. Severities are uniform, skewed or of two levels;
the encoder is the universal one. Expected: adapting pays where severities differ most, and less than adding only the
missing noise.

Cost: half an hour on two cores (desk, Fashion-MNIST), three quarters (photos), five minutes (short, the first setting
of desk), seconds (smoke).
Run: python -m workbench study adaptivity
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from studies import _photos
from studies._cells import TINY
from studies.adaptivity import sections
from studies.adaptivity.results import read
from workbench.degradations import (
    AnyDegradation,
    AnySeverityDistribution,
    GaussianBlur,
    Mixture,
    MotionBlurCRF,
    Skewed,
    TwoPoint,
    Uniform,
)
from workbench.experiments.study import Axes, Preset, Study
from workbench.severity.recipe import SeverityRecipe
from workbench.severity.start import Allocated, EqualCost, MissingNoise, SNRMatch
from workbench.solvers import GMLDPS, LDPS, MMPS, AnySolver, LDPSFew
from workbench.stages.measure.evaluate import Evaluate

UNIVERSAL = SeverityRecipe(degradation=Mixture(), num_train_images=100_000, source="auto")
MATCH, NON_BLIND = SNRMatch(variance="encoder"), SNRMatch(variance="non_blind")


@dataclass(frozen=True)
class Method:
    """A solver with its chain, the numbers of evaluations to choose from, and the budget of the allocated cell."""

    solver: AnySolver
    num_steps: int
    candidates: Sequence[int]
    budget: float


FEW = Method(LDPSFew(), 125, (0, 1, 2, 3, 4, 6, 9, 13), 4)
LONG = Method(LDPS(), 500, (0, 2, 4, 8, 16, 32, 64, 100), 16)
GLUED = Method(GMLDPS(), 500, (0, 4, 8, 16, 32), 16)
# on photographs the estimates are worse, and starts earlier
FEW_PHOTOS = Method(LDPSFew(), 60, FEW.candidates, 4)
MMPS_PHOTOS = Method(MMPS(share=4), 60, FEW.candidates, 4)
LONG_PHOTOS = Method(LDPS(), 500, (0, 8, 16, 32, 64, 100), 32)
QUICK = Method(LDPSFew(), 20, (0, 1, 2, 4), 2)


Setting = tuple[Method, AnyDegradation, AnySeverityDistribution]


def cells(
    method: Method,
    degradation: AnyDegradation,
    severities: AnySeverityDistribution,
    num_images: int,
    matches: Sequence[SNRMatch],
) -> list[Axes]:
    """All cells of one solver on one distribution of measurements, the grid of evaluations on test images first."""
    shared: Axes = {
        "solver": (method.solver,),
        "sampler.num_steps": (method.num_steps,),
        "degradation": (degradation,),
        "severities": (severities,),
    }
    grid = {**shared, "start.kind": ("missing_noise",), "start.nfe": tuple(method.candidates), "start.of": (MATCH,)}
    controls = [EqualCost(control=name, of=MATCH, num_val_images=num_images) for name in BLIND]
    allocated = Allocated(
        budget=method.budget, candidates=tuple(method.candidates), of=MATCH, num_val_images=num_images
    )
    no_pictures: Axes = {"num_examples": (0,)}  # the page shows those of the allocated start
    return [
        {**grid, "split": ("test", "val"), "sample": (0,), **no_pictures},
        {**grid, "split": ("test",), "sample": (1,), **no_pictures},
        {**shared, "start": (*matches, *controls), "split": ("test", "val"), "sample": (0,), **no_pictures},
        {**shared, "start": (allocated,), "split": ("test",), "sample": (0,)},
    ]


BLIND = ("timestep", "permuted", "known_severity")
"""Controls that begin otherwise than from the missing noise of the image's own variance; the fourth is in the grid."""


def preset(
    settings: Sequence[Setting],
    num_images: int,
    matches: Sequence[SNRMatch] = (MATCH, NON_BLIND),
    **overrides: Any,
) -> Preset:
    """The cells of several settings, on as many test images as validation images."""
    first, *others = [axes for one in settings for axes in cells(*one, num_images, matches)]
    return Preset(overrides={**overrides, "num_images": num_images}, axes=first, grids=others)


SIX = Mixture()
TWO = TwoPoint()
DESK: Sequence[Setting] = (
    (FEW, SIX, TWO),
    (FEW, SIX, Uniform()),
    (FEW, SIX, Skewed()),
    (FEW, MotionBlurCRF(), TWO),
    (FEW, GaussianBlur(), Uniform()),
    (LONG, SIX, TWO),
    (GLUED, SIX, TWO),
)
PHOTOS: Sequence[Setting] = (
    (FEW_PHOTOS, SIX, TWO),
    (FEW_PHOTOS, SIX, Uniform()),
    (FEW_PHOTOS, SIX, Skewed()),
    (MMPS_PHOTOS, SIX, TWO),
    (LONG_PHOTOS, SIX, TWO),
)

study = Study(
    cell=Evaluate(severity_encoder=UNIVERSAL, start=MissingNoise(of=MATCH), solver=LDPSFew()),
    axes={},
    columns={
        "sampler.num_steps": None,  # the solver's own
        "start.kind": "rule",
        "start.nfe": "evaluations",
        "start.of": None,
        "num_examples": None,
    },
    presets={
        "smoke": preset([(QUICK, GaussianBlur(), TWO)], matches=(MATCH,), **{**TINY, "num_images": 14}),
        "short": preset(DESK[:1], num_images=128),
        "desk": preset(DESK, num_images=128),
        "photos": preset(PHOTOS, num_images=64, **_photos.PHOTOS, severity_encoder=_photos.UNIVERSAL),
    },
    results=read,
    answer=sections.answer,
    main_figure=sections.main_figure,
    example=sections.example,
    report=(
        sections.where_section,
        sections.spending_section,
        sections.rules_section,
        sections.limits_section,
        sections.trivial_section,
    ),
)
