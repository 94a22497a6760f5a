"""The cell for restoring: networks, operator, start rule and solver."""

from collections.abc import Mapping
from typing import Any

from workbench.core.config import UserError
from workbench.core.encoder_choice import EncoderChoice
from workbench.degradations import Degradation
from workbench.experiments.study import base_cell
from workbench.severity.recipe import SeverityRecipe
from workbench.severity.start import EqualCost
from workbench.stages.measure.evaluate import Evaluate

UNIVERSAL: Mapping[str, Any] = {
    "severity_encoder.source": "auto",
    "severity_encoder.degradation.kind": "mixture",
    "severity_encoder.num_train_images": 100_000,
    "severity_encoder.batch_size": 64,
}
"""The recipe of the shipped universal severity encoder."""

FEW_STEPS: Mapping[str, Any] = {"solver.kind": "mmps", "sampler.num_steps": 125}
"""What restores from matched starts unless the user chooses a solver or sampler: on validation images the best, in the
fewest steps."""


def restoring_cell(
    operator: str | Degradation, encoder: EncoderChoice, preset: str, overrides: Mapping[str, Any]
) -> Evaluate:
    """The cell for restoring: networks, operator, start rule and solver, with the user's overrides.

    Args:
        operator: the degradation of the images, or its kind (with default settings).
        preset: a preset of the robustness study, which defines the cell.

    Raises:
        UserError: for an unknown operator, preset or field, a start that only studies can use, or if no universal
            encoder ships for the data and the autoencoder.
    """
    named = "degradation.kind" if isinstance(operator, str) else "degradation"
    chosen: Mapping[str, Any]
    match encoder:
        case EncoderChoice.NONE:
            residual = {} if "start.kind" in overrides else {"start.variance": "residual"}
            chosen = {"severity_encoder.kind": "none", **residual}
        case EncoderChoice.UNIVERSAL:
            chosen = UNIVERSAL
        case EncoderChoice.MATCHED:  # trained for this operator, including its noise
            same = {f"severity_encoder.{k}": v for k, v in overrides.items() if k.startswith("degradation.")}
            chosen = {f"severity_encoder.{named}": operator, **same}
    theirs = any(name.startswith(("solver", "sampler", "start.kind")) for name in overrides)
    few = {} if theirs else FEW_STEPS
    cell = base_cell("robustness", preset, {named: operator, **few, **chosen, **overrides})
    assert isinstance(cell, Evaluate)
    if isinstance(cell.start, EqualCost):
        raise UserError("start.kind=equal_cost needs the costs of a study's images: it cannot be used to restore")
    trained = cell.severity_stage()
    if encoder is EncoderChoice.UNIVERSAL and (trained is None or trained.shipped() is None):
        raise UserError("no universal encoder ships for this data and autoencoder: use encoder matched or none")
    return cell


def with_noise(cell: Evaluate, noise_std: float) -> Evaluate:
    """The cell for measurements with this noise level; a matched encoder is trained with it too."""
    overrides = {"degradation.noise_std": noise_std}
    encoder = cell.severity_encoder
    if isinstance(encoder, SeverityRecipe) and encoder.degradation == cell.degradation:
        overrides["severity_encoder.degradation.noise_std"] = noise_std
    return cell.replace(overrides)
