"""Does a severity encoder trained on one degradation still steer reconstruction on another?

Severity encoders are trained on each of four degradations and on their mixture ("universal"), and each is tested on
each degradation: the same images, operators and noise for every encoder, one latent diffusion prior, one start rule,
one solver. Expected: a mismatched encoder is over-confident and loses several dB; a universal one loses little.

Cost: about 14 minutes on two cores (desk), under a minute (smoke). Run: python -m workbench study robustness
"""

from studies import _robustness_report as report
from workbench.degradations import GaussianBlur, GaussianNoise, Mixture, MotionBlurCRF, RandomInpainting
from workbench.stages.evaluate import Evaluate
from workbench.study import Preset, Study

DEGRADATIONS = (GaussianBlur(), RandomInpainting(), MotionBlurCRF(), GaussianNoise())

study = Study(
    cell=Evaluate(),
    axes={"severity_encoder.degradation": (*DEGRADATIONS, Mixture(members=DEGRADATIONS)), "degradation": DEGRADATIONS},
    columns={"severity_encoder.degradation": "encoder"},
    presets={
        "smoke": Preset(
            {
                "num_images": 4,
                "sampler.num_steps": 50,
                "severity_encoder.num_train_images": 128,
                "severity_encoder.batch_size": 32,
            }
        ),
        "desk": Preset(),
    },
    answer=report.answer,
    picture=report.picture,
    report=report.SECTIONS,
)
