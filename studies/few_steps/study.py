"""Which solver restores best in a few evaluations of the prior?

The same matched start, of the universal severity encoder, is followed by LDPS on a long and on a short grid, by
LDPS for few steps, and by MMPS with several weights of the measurement and on several grids. The images are validation
images: `restore` uses what is best here, and `--split=test` says what it is worth on others. Expected: solvers that
solve for the data in every step reach LDPS at a fifth of its evaluations, and MMPS without a scale to tune.

Cost: a quarter of an hour on two cores (desk, on Fashion-MNIST; photos), 20 seconds (smoke).
Run: python -m workbench study few_steps --preset photos
"""

from collections.abc import Sequence

from studies import _photos
from studies._cells import TINY
from studies.few_steps import sections
from studies.few_steps.results import read
from studies.robustness.study import FAMILIES
from workbench.degradations import Degradation, Mixture
from workbench.experiments.study import Axes, Preset, Study
from workbench.severity.recipe import SeverityRecipe
from workbench.solvers import LDPS, MMPS, AnySolver, LDPSFew
from workbench.stages.measure.evaluate import Evaluate

UNIVERSAL = SeverityRecipe(degradation=Mixture(), num_train_images=100_000, source="auto")
SHARED = MMPS(share=4)
"""The solver that restores by default."""
METHODS: Sequence[tuple[AnySolver, int]] = (
    (SHARED, 60),
    (SHARED, 30),
    (SHARED, 125),
    (MMPS(share=2), 60),
    (MMPS(share=8), 60),
    (MMPS(), 60),
    (LDPSFew(), 60),
    (LDPS(), 500),
)
"""Solvers and the steps of their whole chains; the first is the one that the others are compared with."""


def cells(methods: Sequence[tuple[AnySolver, int]], degradations: Sequence[Degradation]) -> list[Axes]:
    """Every method on every degradation."""
    return [
        {
            "solver": (solver,),
            **({"solver.share": (solver.share,)} if isinstance(solver, MMPS) else {}),
            "sampler.num_steps": (steps,),
            "degradation": degradations,
            **({"num_examples": (0,)} if (solver, steps) != methods[0] else {}),
        }
        for solver, steps in methods
    ]


FIRST, *FURTHER = cells(METHODS, FAMILIES)
SHORT, *SHORT_FURTHER = cells(((SHARED, 40), (LDPSFew(), 40)), FAMILIES[:1])

study = Study(
    cell=Evaluate(severity_encoder=UNIVERSAL, split="val"),
    axes=FIRST,
    columns={"sampler.num_steps": "steps", "solver.share": "share", "num_examples": None},
    presets={
        "smoke": Preset({**TINY, "severity_encoder.source": "train"}, SHORT, SHORT_FURTHER),
        "desk": Preset(grids=FURTHER),
        "photos": Preset({**_photos.PHOTOS, "severity_encoder": _photos.UNIVERSAL, "num_images": 32}, grids=FURTHER),
    },
    results=read,
    answer=sections.answer,
    main_figure=None,
    report=(sections.overall, sections.each),
)
