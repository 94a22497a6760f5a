"""How exactly must a start match the severity encoder's SNR, and what would a better start gain?

Starts are swept from 9 dB below the match (later, fewer evaluations) to 15 dB above it (earlier), under both readings
of the encoder's error: independent of the clean latent (forward, the paper's) or of the estimate (mmse). Beside them
stand the authors' rule (official), the same timestep for all images (fixed) and a match of the true error variance.
Each image's best start of the sweep is what they are measured against; every encoder is the one that was trained for
the degradation, and guidance the best for the match on validation images: where it is too weak, an earlier start looks
better than it is, since more steps make up for it. Expected: a broad optimum; few tenths of a dB lie beyond the match.

Cost: about an hour on one core (desk; photos: on photographs, with the same guidance), seconds (smoke), twice as long
as desk and encoders of hours (full).
Run: python -m workbench study snr_matching
"""

from collections.abc import Sequence

from studies._cells import SMOKE, matched
from studies._photos import DESK as PHOTOS
from studies.snr_matching import sections
from studies.snr_matching.results import read
from workbench.degradations import Degradation, GaussianBlur, MotionBlurCRF, RandomInpainting
from workbench.experiments.study import Axes, Preset, Study
from workbench.severity.start import SNRMatch
from workbench.stages.measure.evaluate import Evaluate

FAMILIES = {GaussianBlur(): 4.0, RandomInpainting(): 2.0, MotionBlurCRF(): 4.0}
"""LDPS's guidance scale for each: of 1, 2, 4 and 8 the best for the match on the first 64 validation images."""
FIRST, *OTHERS = FAMILIES
OFFSETS = tuple(3.0 * step for step in range(-3, 6))


def cells(degradation: Degradation, **axes: Sequence[object]) -> Axes:
    """Cells of the family's own encoder and guidance."""
    return matched(degradation, solver__guidance_scale=(FAMILIES[degradation],), **axes)


def sweep(degradation: Degradation, offsets: Sequence[float] = OFFSETS) -> Axes:
    """Starts around the match."""
    return cells(degradation, start__channel=("forward", "mmse"), start__offset_db=offsets, sample=(0,))


def others(timesteps: Sequence[int], families: Sequence[Degradation] = tuple(FAMILIES)) -> list[Axes]:
    """All but the first family's sweep: the other sweeps, and for each family the other rules and a second sweep.

    The second sweep has other noise; on it the best start is chosen.
    """
    found = [sweep(family) for family in families if family != FIRST]
    for family in families:
        found += [
            cells(family, start__channel=("forward",), start__offset_db=OFFSETS, sample=(1,)),
            cells(family, start__kind=("official",), start__c=(1.0, 1.2), sample=(0,)),
            cells(family, start__kind=("fixed",), start__timestep=timesteps, sample=(0,)),
            cells(family, start__kind=("oracle_variance",), start__offset_db=(-3.0, 0.0, 3.0, 6.0), sample=(0,)),
        ]
    return found


study = Study(
    cell=Evaluate(start=SNRMatch(variance="encoder")),
    axes=sweep(FIRST),
    columns={
        "severity_encoder.degradation": "encoder",
        "start.kind": "rule",
        "start.channel": "channel",
        "start.offset_db": "offset_db",
        "start.c": "c",
        "start.timestep": "timestep",
        "solver.guidance_scale": None,  # the one of the degradation
    },
    presets={
        "smoke": Preset(
            overrides=SMOKE,
            axes=sweep(FIRST, (-6.0, 0.0, 6.0)),
            grids=[
                cells(FIRST, start__offset_db=(-6.0, 0.0, 6.0), sample=(1,)),
                cells(FIRST, start__kind=("official",), start__c=(1.2,)),
                cells(FIRST, start__kind=("fixed",), start__timestep=(100,)),
            ],
        ),
        "desk": Preset(grids=others((10, 20, 40, 80, 160))),
        "photos": Preset(
            overrides={**PHOTOS, "num_images": 48}, grids=others((10, 20, 40, 80, 160), [FIRST, OTHERS[0]])
        ),
        "full": Preset(
            overrides={"severity_encoder.num_train_images": 100_000},
            grids=[*others((10, 20, 40, 80, 160, 320)), *(cells(family, start__kind=("full",)) for family in FAMILIES)],
        ),
    },
    results=read,
    answer=sections.answer,
    main_figure=sections.main_figure,
    report=(sections.tolerance_section, sections.regret_section),
)
