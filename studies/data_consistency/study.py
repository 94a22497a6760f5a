"""Where does guidance by the measurement help, and where does it begin to fit the noise?

The same matched start is followed by reverse diffusion that never looks at the measurement again (no guidance), and by
LDPS with guidance scales from 0.25 to 16, under every forward model. The residual on observed entries says how far a
restored image contradicts its measurement: noise alone makes it 1 noise standard deviation, and less means that noise
was fitted. The sweep is the report: no scale is chosen on test images for use elsewhere. MMPS, whose guidance weighs
itself by the noise and by what the prior leaves open, stands beside the best scale of each degradation (unscaled).
Expected: guidance helps up to a few times its default and ruins the image beyond; the best scale leaves a residual near
the noise; MMPS comes close to it, in a quarter of the steps.

Cost: 10 minutes on one core and 2 more for each encoder that is not there yet (desk; unscaled: a few more), seconds
(smoke), encoders of hours (full).
Run: python -m workbench study data_consistency
"""

from collections.abc import Sequence

from studies._cells import SMOKE, matched
from studies.data_consistency import sections
from studies.data_consistency.results import read
from studies.robustness.study import FAMILIES
from workbench.degradations import Degradation
from workbench.experiments.study import Axes, Preset, Study
from workbench.severity.start import SNRMatch
from workbench.solvers import MMPS, NoGuidance
from workbench.stages.measure.evaluate import Evaluate

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
FEW_STEPS = 125


def guided(degradation: Degradation, scales: Sequence[float] = SCALES) -> Axes:
    """LDPS at each scale, with the encoder that was trained for the degradation."""
    return matched(degradation, solver__guidance_scale=scales)


def unguided(degradation: Degradation) -> Axes:
    """The same starts without guidance."""
    return matched(degradation, solver=(NoGuidance(),))


def weighed(degradation: Degradation) -> Axes:
    """The same starts with MMPS, on a grid of few steps."""
    return matched(degradation, solver=(MMPS(),), sampler__num_steps=(FEW_STEPS,))


OTHERS = [*map(guided, FAMILIES[1:]), *map(unguided, FAMILIES)]
"""All cells but those of the first family, which the study's own axes are."""

study = Study(
    cell=Evaluate(start=SNRMatch(variance="encoder")),
    axes=guided(FAMILIES[0]),
    columns={
        "severity_encoder.degradation": "encoder",
        "solver.guidance_scale": "guidance",
        "sampler.num_steps": None,  # the one of the solver
    },
    presets={
        "smoke": Preset(SMOKE, guided(FAMILIES[0], (0.5, 2.0, 8.0)), (unguided(FAMILIES[0]),)),
        "desk": Preset(grids=OTHERS),
        "unscaled": Preset(grids=[*OTHERS, *map(weighed, FAMILIES)]),
        "full": Preset(overrides={"num_images": 256, "severity_encoder.num_train_images": 100_000}, grids=OTHERS),
    },
    results=read,
    answer=sections.answer,
    main_figure=sections.main_figure,
    report=(sections.residual_section, sections.weighed_section, sections.quality_section),
)
