"""Does a severity encoder trained on one degradation still steer reconstruction on another?

Severity encoders are trained on each of several degradations and on their mixture ("universal"), and each is tested on
each degradation: the same images, operators and noise for every encoder, one latent diffusion prior, one solver. Where
reconstruction begins is decided by the encoder's own variance, by that variance corrected by the measurement's residual
("fused"), or by the true one; and, for comparison, without any encoder. Controls that do not adapt to the image, at
equal mean FLOPs, say what adapting is worth (desk). The full study adds degradations and seeds, and
universal encoders that have not seen the degradation tested. Expected: a mismatched encoder is over-confident and loses
several dB; a universal one loses little; the residual makes good most of what a wrong start costs.

On photographs (photos, photos_full) the pair that ships for them is used, and its universal encoder.

Cost: half an hour on two cores (desk), three quarters (photos), 20 seconds (smoke), two hours (photos_full; its results
ship), a night (full; its results ship).
Run: python -m workbench study robustness
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studies._cells import SMOKE
from studies._equal_cost import controls_of
from studies._photos import DESK as PHOTOS
from studies._photos import UNIVERSAL
from studies.robustness import sections
from studies.robustness.likeness import EVIDENCE, likeness_evidence
from studies.robustness.results import read
from workbench.degradations import (
    JPEG,
    Degradation,
    GaussianBlur,
    GaussianNoise,
    Mixture,
    MotionBlurCRF,
    RandomInpainting,
    SuperResolution,
)
from workbench.experiments.restore.cell import FEWER_STEPS
from workbench.experiments.results import Cell
from workbench.experiments.study import Axes, Preset, Study
from workbench.severity.recipe import SeverityRecipe
from workbench.severity.start import OracleVariance, SNRMatch
from workbench.severity.untrained import NoEncoder
from workbench.stages.base import Stage
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.measure.latent_statistics import LatentStatistics

FAMILIES = (GaussianBlur(), RandomInpainting(), MotionBlurCRF(), GaussianNoise(), SuperResolution(), JPEG())
FOUR = FAMILIES[:4]
TRAINED_ON = "severity_encoder.degradation"
OWN, TRUE = SNRMatch(variance="encoder"), OracleVariance()
RESIDUAL, MAX, FUSED, NON_BLIND, DISTANCE = (
    SNRMatch(variance=v) for v in ("residual", "max", "fused", "non_blind", "mahalanobis")
)
STATISTICS_IMAGES = 500, 20_000
LARGEST_LATENT = 1024
"""Values of a latent up to which degradations are compared by covariances: 20,000 images do not determine larger ones,
and their distances take hours."""


def crossed(families: Sequence[Degradation], *starts: object) -> Axes:
    """Each family's encoder and the universal one on each family."""
    encoders = (*families, Mixture(members=families))
    return {TRAINED_ON: encoders, "degradation": families, "start": starts}


def equal_cost(families: Sequence[Degradation], rule: SNRMatch = FUSED, num_val_images: int = 128) -> list[Axes]:
    """The controls of `rule`: each family tested by its own encoder, and by that of the next family."""
    others = (*families[1:], *families[:1])
    return [
        {TRAINED_ON: (trained_on,), "degradation": (tested_on,), "start": controls_of(rule, num_val_images)}
        for trained_ons in (families, others)
        for trained_on, tested_on in zip(trained_ons, families, strict=True)
    ]


def left_out(families: Sequence[Degradation], *starts: object) -> list[Axes]:
    """For each family, the universal encoder of the others on it."""
    return [
        {
            TRAINED_ON: (Mixture(members=[other for other in families if other != family]),),
            "degradation": (family,),
            "start": starts,
        }
        for family in families
    ]


def without_encoder(families: Sequence[Degradation]) -> Axes:
    """E(y) on each family."""
    return {"severity_encoder": (NoEncoder(),), "degradation": families, "start": (RESIDUAL, TRUE)}


def statistics(cells: Sequence[Cell]) -> dict[str, Stage]:
    """The latent statistics of each degradation that was tested on, with the errors of its own encoder."""
    stages: dict[str, Stage] = {}
    for cell in cells:
        evaluate = cell.stage
        assert isinstance(evaluate, Evaluate)
        recipe = evaluate.severity_encoder
        is_small = math.prod(evaluate.autoencoder_stage().planned_latent_shape()) <= LARGEST_LATENT
        if is_small and isinstance(recipe, SeverityRecipe) and recipe.degradation == evaluate.degradation:
            few, many = STATISTICS_IMAGES
            num_images = min(max(recipe.num_train_images, few), many, len(evaluate.data.split("train")))
            stage = LatentStatistics(
                data=evaluate.data,
                autoencoder=evaluate.autoencoder,
                degradation=evaluate.degradation,
                severity_encoder=recipe,
                num_images=num_images,  # as many as the encoder has seen, but enough for a covariance
            )
            stages.setdefault(cell.labels["degradation"], stage)
    return stages


def evidence(folders: Mapping[str, Path]) -> dict[str, Any]:
    """How alike the degradations are."""
    return {EVIDENCE: likeness_evidence(folders)} if len(folders) > 1 else {}


def on_photos(families: Sequence[Degradation], num_images: int, *further: Axes) -> Preset:
    """Each family's encoder and the universal one that ships on photographs; true and further starts keep no pictures.

    The universal one has seen all six families. The solver is the one that restores photographs by default.
    """
    starts: Axes = {"start": (OWN, FUSED)}
    universal: Axes = {"severity_encoder": (UNIVERSAL,), TRAINED_ON: (UNIVERSAL.degradation,), "degradation": families}
    matched: Axes = {TRAINED_ON: families, "degradation": families}
    others: list[Axes] = [
        {**universal, "start": (NON_BLIND, TRUE)},
        {**matched, "start": (TRUE,)},
        without_encoder(families),
    ]
    return Preset(
        overrides={**PHOTOS, **FEWER_STEPS, "num_images": num_images},
        axes={**matched, **starts},
        grids=({**universal, **starts}, *({**axes, "num_examples": (0,)} for axes in (*others, *further))),
    )


study = Study(
    cell=Evaluate(),
    axes=crossed(FOUR, OWN),
    columns={TRAINED_ON: "encoder", "start": "variance", "severity_encoder.seed": "seed", "num_examples": None},
    support=statistics,
    evidence=evidence,
    presets={
        "smoke": Preset(
            overrides=SMOKE,
            grids=(
                {TRAINED_ON: FOUR[:1], "degradation": FOUR[:2], "start": (FUSED, TRUE)},
                without_encoder(FOUR[:1]),
            ),
        ),
        "desk": Preset(grids=(crossed(FOUR, FUSED, TRUE), *equal_cost(FOUR), without_encoder(FOUR))),
        "photos": on_photos(FOUR, 40, *equal_cost(FOUR[:2], num_val_images=64)),
        "photos_full": on_photos(FAMILIES, 64),  # controls of equal cost: study adaptivity
        "full": Preset(
            overrides={"num_images": 256, "severity_encoder.num_train_images": 100_000},
            axes={**crossed(FAMILIES, OWN), "severity_encoder.seed": (0, 1, 2)},
            grids=(
                *left_out(FAMILIES, OWN, FUSED, TRUE),
                crossed(FAMILIES, FUSED, TRUE),
                without_encoder(FAMILIES),
                # the other rules, on two families that differ much
                {**crossed(FAMILIES, DISTANCE), "degradation": FOUR[:2]},
                {TRAINED_ON: FOUR[:2], "degradation": FOUR[:2], "start": (RESIDUAL, MAX)},
            ),
        ),
    },
    results=read,
    report=sections.SECTIONS,
    answer=sections.answer,
    main_figure=sections.main_figure,
    example=sections.example,
)
