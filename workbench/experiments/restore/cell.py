"""The cell for restoring: networks, operator, start rule and solver."""

from collections.abc import Mapping
from typing import Any

from workbench.core.config import UserError
from workbench.core.encoder_choice import EncoderChoice
from workbench.degradations import Degradation, Mixture
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
    if encoder is EncoderChoice.AUTO:
        encoder = EncoderChoice.QUICK
        if not any(name.startswith("severity_encoder.") for name in overrides):
            universal = _cell(operator, EncoderChoice.UNIVERSAL, preset, overrides)
            if _ships(universal) and _is_known(universal):
                return universal
        elif "severity_encoder.kind" not in overrides:  # settings of an encoder that is trained
            encoder = EncoderChoice.MATCHED
    cell = _cell(operator, encoder, preset, overrides)
    if encoder is EncoderChoice.UNIVERSAL and not _ships(cell):
        raise UserError("no universal encoder ships for this data and autoencoder: use encoder quick, matched or none")
    return cell


def _cell(operator: str | Degradation, encoder: EncoderChoice, preset: str, overrides: Mapping[str, Any]) -> Evaluate:
    named = "degradation.kind" if isinstance(operator, str) else "degradation"
    chosen: dict[str, Any]
    match encoder:
        case EncoderChoice.NONE:
            residual = {} if "start.kind" in overrides else {"start.variance": "residual"}
            chosen = {"severity_encoder.kind": "none", **residual}
        case EncoderChoice.UNIVERSAL:
            chosen = {**UNIVERSAL}
        case EncoderChoice.MATCHED:  # trained for this operator, including its noise
            same = {f"severity_encoder.{k}": v for k, v in overrides.items() if k.startswith("degradation.")}
            chosen = {f"severity_encoder.{named}": operator, **same}
        case _:
            chosen = {"severity_encoder.kind": "quick"}
            if overrides.get("severity_encoder.kind", "quick") == "quick" and "start.kind" not in overrides:
                chosen["start.channel"] = "mmse"  # least squares makes the error independent of z_hat
    cell = base_cell("robustness", preset, {named: operator, **chosen, **overrides})
    assert isinstance(cell, Evaluate)
    if isinstance(cell.start, EqualCost):
        raise UserError("start.kind=equal_cost needs the costs of a study's images: it cannot be used to restore")
    return cell


def _ships(cell: Evaluate) -> bool:
    """Whether the severity encoder of a cell comes with the workbench."""
    trained = cell.severity_stage()
    return trained is not None and trained.shipped() is not None


def _is_known(cell: Evaluate) -> bool:
    """Whether the operator is among those that a universal encoder was trained on."""
    encoder = cell.severity_encoder
    assert isinstance(encoder, SeverityRecipe)
    assert isinstance(encoder.degradation, Mixture)
    return cell.degradation.kind in {member.kind for member in encoder.degradation.members}


def with_noise(cell: Evaluate, noise_std: float) -> Evaluate:
    """The cell for measurements with this noise level; a matched encoder is trained with it too."""
    overrides = {"degradation.noise_std": noise_std}
    encoder = cell.severity_encoder
    if isinstance(encoder, SeverityRecipe) and encoder.degradation == cell.degradation:
        overrides["severity_encoder.degradation.noise_std"] = noise_std
    return cell.replace(overrides)
