"""How much better or cheaper does the method get when its settings are tuned for the degradation?

Each degradation's own encoder, with the default settings, is a cell; tuning searches beside it which variance and which
reading of the error the start goes by, how much noisier than matched it is, LDPS's guidance scale, the number of steps
of the grid and the share of DDPM's noise, on validation images, and evaluates the front of PSNR against NFE on test
images. Expected: as good at a fraction of the evaluations; guidance matters most.

Cost: half an hour on two cores (desk), as long on photographs (photos), seconds (smoke), half a day (full).
Run: python -m workbench tune tuning (python -m workbench study tuning: the default settings alone)
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from studies._cells import SMOKE, matched
from studies._photos import DESK as PHOTOS
from studies.tuning import sections
from studies.tuning.results import read
from workbench.degradations import GaussianBlur, MotionBlurCRF, RandomInpainting
from workbench.experiments.study import Preset, Study
from workbench.solvers import GMLDPS, PSLD
from workbench.stages.measure.evaluate import Evaluate

FIRST, *OTHERS = (GaussianBlur(), RandomInpainting(), MotionBlurCRF())
OTHER_SOLVERS = [(GMLDPS(), (FIRST, *OTHERS)), (PSLD(), (FIRST, OTHERS[0]))]

study = Study(
    cell=Evaluate(),
    axes=matched(FIRST),
    columns={"severity_encoder.degradation": None},  # the one of the degradation
    search={
        "start.variance": CategoricalDistribution(("fused", "encoder")),
        "start.channel": CategoricalDistribution(("forward", "mmse")),
        "start.offset_db": FloatDistribution(-9.0, 6.0),
        "solver.guidance_scale": FloatDistribution(0.5, 12.0, log=True),
        "sampler.num_steps": IntDistribution(30, 1000, log=True),
        "sampler.eta": FloatDistribution(0.0, 1.0),
    },
    presets={
        "smoke": Preset(overrides=SMOKE),
        "desk": Preset(grids=[matched(degradation) for degradation in OTHERS]),
        "photos": Preset(overrides={**PHOTOS, "num_images": 32}, grids=[matched(OTHERS[0])]),
        "full": Preset(
            overrides={"severity_encoder.num_train_images": 100_000, "num_images": 512},
            grids=[
                *(matched(degradation) for degradation in OTHERS),
                *(matched(d, solver=(solver,)) for solver, degradations in OTHER_SOLVERS for d in degradations),
            ],
            search={"solver.weight": FloatDistribution(0.01, 10.0, log=True)},
        ),
    },
    results=read,
    answer=sections.answer,
    main_figure=sections.main_figure,
    report=(sections.gain, sections.transfer, sections.importance, sections.trials),
)
