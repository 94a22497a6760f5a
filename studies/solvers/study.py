"""Does a start that matches each image's severity make latent solvers ten times cheaper, and no worse within margins?

Each solver restores the same measurements from pure noise on long and short grids, from one timestep for all images
(CCDF), and from where the severity encoder says (the authors' rule and SNR matching), with the encoder trained for the
degradation. The baseline is the best run from pure noise, on the published grid or a shorter one. Every run's step size
is the best of as many trials on validation images, so that no run is a straw man; curves of PSNR against compute show
them all. "Ten times" is about network evaluations of the prior (the test on time asks for seven); decoder and encoder
evaluations, compute and time stand beside them. "No worse" is non-inferiority: by 95 % intervals no more than 0.1 dB of
PSNR, 0.005 of SSIM and 0.01 of LPIPS is lost.
Expected: SNR matching is at least as good as pure noise at a tenth of its evaluations; where it must be cheaper still,
inpainting loses first. Most of that saving a fixed start has, too: what matching adds to it is smaller.

Cost: about an hour on one core, half of that on two (desk), as long on photographs (photos), seconds (smoke), a night
(full), an hour on two cores (photos_full: three degradations).
Run: python -m workbench study solvers
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from studies._cells import TINY, matched
from studies._photos import DESK as PHOTOS
from studies.solvers import paper, sections
from studies.solvers.results import read
from workbench.degradations import Degradation, GaussianBlur, MotionBlurCRF, RandomInpainting
from workbench.experiments.study import Axes, Preset, Study
from workbench.severity.start import CONTROL_NAMES, SNRMatch
from workbench.solvers import GMLDPS, LDPS, PSLD, DecodeOnly, LDPSFew, ReSample, Solver
from workbench.stages.measure.evaluate_tuned import EvaluateTuned

FAMILIES = (GaussianBlur(), RandomInpainting(), MotionBlurCRF())
SOLVERS = (LDPS(), GMLDPS(), PSLD(), ReSample())
PUBLISHED_RESAMPLE = ReSample(
    every=10, gamma=40.0, image_learning_rate=5e-3, latent_learning_rate=5e-3, max_iterations=200
)
"""From pure noise, as in its paper: 500 steps of DDIM, every 10th, gamma 40; the defaults are for chains that begin
with a few steps to go. Preset `paper` has what the authors of Flash-Diffusion ran it with."""
Pair = tuple[Solver, Degradation]


class Grids(NamedTuple):
    """Numbers of steps, of the whole grid from T - 1 to the clean end, for each kind of start."""

    baseline: Sequence[int]  # from pure noise: the first as published, by DDPM; shorter ones by DDIM, made for them
    resample: Sequence[int]  # the same for ReSample: the first with the published settings, by DDIM
    fixed: tuple[int, Sequence[int]]  # the grid for fixed starts, and the timesteps at which they begin
    official: Sequence[int]  # made for all T: on short grids some of these starts lie below the last timestep
    matched: Sequence[int]
    few: Sequence[int]  # of LDPS in few steps, which is made for matched starts and runs from no other


def cells(pair: Pair, num_steps: Sequence[int], start: str, **axes: Sequence[object]) -> Axes:
    """Runs of one solver on one degradation from one kind of start, the strength of its guidance tuned."""
    solver, degradation = pair
    strength = "solver.gamma" if isinstance(solver, ReSample) else "solver.guidance_scale"
    common = {"solver": (solver,), "tuned": (strength,), "sampler__num_steps": num_steps}
    return matched(degradation, **{**common, **axes, "start__kind": (start,)})


def from_every_start(pair: Pair, grids: Grids) -> list[Axes]:
    """All runs of one solver on one degradation."""
    resample = isinstance(pair[0], ReSample)
    longest, *shorter = grids.resample if resample else grids.baseline
    published = {"solver": (PUBLISHED_RESAMPLE,), "sampler__eta": (0.0,)} if resample else {"sampler__eta": (1.0,)}
    num_steps, timesteps = grids.fixed
    return [
        cells(pair, (longest,), "full", **published),
        cells(pair, shorter, "full"),
        cells(pair, (num_steps,), "fixed", start__timestep=timesteps),
        cells(pair, grids.official, "official"),
        cells(pair, grids.matched, "snr_match"),
    ]


def pairs(solvers: Sequence[Solver], degradations: Sequence[Degradation]) -> list[Pair]:
    """Solvers with the degradations that they can handle."""
    return [(s, d) for s in solvers for d in degradations if d.linear or not s.linear_only]


def preset(
    chosen: Sequence[Pair], grids: Grids, overrides: Mapping[str, object], num_control_images: int = 0
) -> Preset:
    """Every run of these pairs; on every degradation LDPS in few steps, and the estimate without diffusion.

    Args:
        num_control_images: validation images that controls of equal mean FLOPs may learn from; 0: no controls.
    """
    degradations = {degradation.kind: degradation for _, degradation in chosen}.values()
    longest = (max(grids.matched),)
    first, *others = [axes for pair in chosen for axes in from_every_start(pair, grids)]
    few = [cells((LDPSFew(), degradation), grids.few, "snr_match") for degradation in degradations]
    decoded = [cells((DecodeOnly(), degradation), longest, "snr_match", tuned=(None,)) for degradation in degradations]
    controls = {
        "start__of": (SNRMatch(variance="encoder"),),
        "start__control": tuple(CONTROL_NAMES),
        "start__num_val_images": (num_control_images,),
    }
    equal = [cells(pair, longest, "equal_cost", **controls) for pair in chosen if num_control_images]
    return Preset(overrides=overrides, axes=first, grids=[*others, *few, *decoded, *equal])


DESK = Grids(
    baseline=(1000, 100, 20),
    resample=(500, 100),
    fixed=(500, (20, 100)),
    official=(500, 250),
    matched=(500, 250, 100),
    few=(250, 125, 60),
)
PHOTO_GRIDS = Grids(
    baseline=(1000, 200, 50),
    resample=(500, 100),
    fixed=(500, (20, 100)),
    official=(500,),
    matched=(500, 250, 100),
    few=(125, 60),
)
# without controls of equal cost, which `adaptivity` has on photographs
ON_PHOTOS = {
    **PHOTOS,
    "num_images": 48,
    "num_val_images": 12,
    "num_values": 3,
    "max_extensions": 2,
    "num_examples": 6,
}
FULL = Grids(
    baseline=(1000, 200, 100, 50, 20),
    resample=(500, 200, 100, 50),
    fixed=(500, (10, 20, 40, 100, 200)),
    official=(1000, 500, 250),
    matched=(1000, 500, 250, 100, 50),
    few=(250, 125, 60, 30),
)

study = Study(
    cell=EvaluateTuned(start=SNRMatch(variance="encoder")),
    axes=from_every_start((SOLVERS[0], FAMILIES[0]), DESK)[0],
    columns={
        "severity_encoder.degradation": None,  # the one of the degradation
        "tuned": None,  # the solver's own
        "start.kind": "start",
        "start.timestep": "timestep",
        "start.control": "control",
        "start.of": None,  # the encoder's SNR match
        "start.num_val_images": None,
        "sampler.num_steps": "num_steps",
        "sampler.eta": "eta",
        "sampler.clean_end": None,  # false for ReSample as published, which has a grid of its own
    },
    presets={
        "smoke": preset(
            pairs((LDPS(), ReSample()), FAMILIES[:1]),
            Grids(baseline=(20, 5), resample=(20, 10), fixed=(20, (200,)), official=(20,), matched=(20, 10), few=(10,)),
            {**TINY, "num_val_images": 2, "num_values": 3, "max_extensions": 1, "solver.max_iterations": 3},
            num_control_images=4,
        ),
        "desk": preset(
            [*pairs((LDPS(),), FAMILIES[:2]), (PSLD(), FAMILIES[0])],
            DESK,
            {"num_images": 64, "num_val_images": 16, "num_values": 3, "max_extensions": 2},
            num_control_images=64,
        ),
        "photos": preset(pairs((LDPS(),), FAMILIES[:2]), PHOTO_GRIDS, ON_PHOTOS),
        "photos_full": preset(pairs((LDPS(),), FAMILIES), PHOTO_GRIDS, ON_PHOTOS),
        "full": preset(
            pairs(SOLVERS, FAMILIES),
            FULL,
            {"num_val_images": 16, "num_values": 3, "severity_encoder.num_train_images": 100_000},
        ),
        "paper": paper.preset(),
    },
    results=read,
    answer=sections.answer,
    main_figure=sections.main_figure,
    example=sections.example,
    report=(
        sections.claim_section,
        sections.fixed_section,
        sections.controls_section,
        sections.cost_section,
        sections.runs_section,
        sections.examples_section,
    ),
)
