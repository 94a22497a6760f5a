"""Does the severity encoder's prediction follow the level of the degradation, and does it know its own error?

The same images are degraded at ten levels and, for Gaussian blur, with noise of several strengths, and only encoded.
The prediction is set beside the level and beside the true variance. The blur encoder was trained with noise of 0.05
alone; beside it stand encoders trained with the noise that they are tested with, and the universal encoder that
ships, which has seen noise of many strengths. Expected: at its own noise the prediction orders two levels of one
image nearly always and is calibrated; with weaker noise it changes little, with stronger noise it is over-confident.

Cost: a quarter of an hour on two cores (desk), most of it in training the encoders that the robustness study has not;
as long on photographs (photos), 20 seconds (smoke), hours (full). Run: python -m workbench study severity
"""

from collections.abc import Sequence

from studies import _photos
from studies._cells import TINY
from studies._photos import DESK as PHOTOS
from studies.severity import sections
from studies.severity.results import COLUMNS, LEVEL, MEMBER, NOISE, TRAINED_NOISE, TRAINED_ON, read
from workbench.degradations import AtSeverity, Mixture
from workbench.experiments.study import Axes, Preset, Study
from workbench.severity.recipe import SeverityRecipe
from workbench.severity.start import SNRMatch
from workbench.solvers import DecodeOnly
from workbench.stages.measure.evaluate import Evaluate

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
NOISES = (0.0, 0.02, 0.05, 0.1)
OWN_NOISE = 0.05
FAMILIES = ("gaussian_blur", "random_inpainting", "motion_blur_crf", "gaussian_noise", "super_resolution", "jpeg")
UNIVERSAL = SeverityRecipe(degradation=Mixture(), num_train_images=100_000, source="auto")


def cells(
    family: str,
    noises: Sequence[float] = NOISES,
    trained: float = OWN_NOISE,
    levels: Sequence[float] = LEVELS,
    *,
    universal: SeverityRecipe | None = None,
) -> Axes:
    """The family's encoder, trained with one noise, or a universal one, at every level and each of these noises."""
    if family == "gaussian_noise":  # whose level is the noise
        noises = (OWN_NOISE,)
    own = {TRAINED_ON: (family,), TRAINED_NOISE: (trained,), MEMBER: (family,), LEVEL: levels, NOISE: noises}
    return {"severity_encoder": (universal,), **own, TRAINED_ON: (Mixture().kind,)} if universal is not None else own


BLUR, *OTHERS = FAMILIES
RETRAINED = [cells(BLUR, (noise,), noise) for noise in NOISES if noise != OWN_NOISE]
FEW = (0.2, 0.8)

study = Study(
    # what decode_only leaves of a cell is the estimate: start, sampler and prior have no part in it
    cell=Evaluate(
        degradation=AtSeverity(),
        start=SNRMatch(variance="encoder"),
        solver=DecodeOnly(),
        num_images=256,
        num_examples=0,
    ),
    axes=cells(BLUR),
    columns=COLUMNS,
    presets={
        "smoke": Preset(
            TINY,
            axes={LEVEL: FEW, NOISE: (0.05, 0.1)},
            grids=[cells(BLUR, (0.1,), 0.1, FEW), cells(OTHERS[0], (OWN_NOISE,), levels=FEW)],
        ),
        "desk": Preset(
            grids=[
                cells(BLUR, universal=UNIVERSAL),
                *RETRAINED,
                *(cells(family, (OWN_NOISE,)) for family in OTHERS[:2]),
            ]
        ),
        "photos": Preset(
            PHOTOS,
            grids=[
                cells(BLUR, universal=_photos.UNIVERSAL),
                *RETRAINED,
                *(cells(family, (OWN_NOISE,)) for family in OTHERS[:2]),
            ],
        ),
        "full": Preset(
            {"severity_encoder.num_train_images": 100_000},
            grids=[*map(cells, OTHERS), *(cells(family, universal=UNIVERSAL) for family in FAMILIES), *RETRAINED],
        ),
    },
    results=read,
    answer=sections.answer,
    main_figure=sections.main_figure,
    report=(sections.levels, sections.trivial),
)
