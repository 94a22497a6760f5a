"""The cell for restoring: networks, operator, start rule and solver; what ships needs no image data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.autoencoders import ArchitectureRecipe
from workbench.core.config import UserError
from workbench.core.encoder_choice import EncoderChoice
from workbench.data import SpokenDigits, TinyImageNet
from workbench.degradations import Degradation, members_of
from workbench.experiments.study import base_cell
from workbench.restoration import Restorer
from workbench.severity.fitted import FittedRecipe
from workbench.severity.recipe import SeverityRecipe
from workbench.severity.start import EqualCost, SNRMatch
from workbench.stages.fit.fit_estimator import Fitted
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.runtime import Runtime
from workbench.stages.train.train_severity import SHIPPED
from workbench.weights import zoo
from workbench.weights.model import ModelFolder, read_model

UNIVERSAL: Mapping[str, Any] = {
    "severity_encoder.source": "auto",
    "severity_encoder.degradation.kind": "mixture",
    "severity_encoder.num_train_images": 100_000,
    "severity_encoder.batch_size": 64,
}
"""The recipe of the universal severity encoder that ships for Fashion-MNIST."""
ENCODER = "severity_encoder"
PHOTOGRAPHS, OTHERS = "photos", "desk"
"""Presets of the robustness study: of photographs, which images are taken for, and of any other data."""
KNOWN = ("tiny_imagenet", "fashion_mnist")
"""Data whose networks the presets name."""
NUM_SAMPLES = 500
"""Clean images that are drawn from the prior where the data set is not there: drawing takes longer than fitting."""

FEW_STEPS: Mapping[str, Any] = {"solver.kind": "mmps", "solver.share": 4.0, "sampler.num_steps": 125}
"""What restores from matched starts unless the user chooses a solver or sampler: on validation images of Fashion-MNIST
the best, in the fewest steps."""
FEWER_STEPS: Mapping[str, Any] = {**FEW_STEPS, "sampler.num_steps": 60}
"""The same for photographs, whose starts are earlier (`study few_steps --preset photos`, 32 validation images): 125
steps take twice the evaluations and gain 0.01 [-0.02, 0.04] dB and 0.0046 [0.0014, 0.0080] of LPIPS."""


def restoring_cell(
    operator: str | Degradation, encoder: EncoderChoice, preset: str | None, overrides: Mapping[str, Any]
) -> Evaluate:
    """The cell for restoring: networks, operator, start rule and solver, with the user's overrides.

    Networks that ship are named by their folders, so that the images that they were trained on are not needed.

    Args:
        operator: the degradation of the images, or its kind (with default settings).
        preset: a preset of the robustness study, which defines the cell; None: that of photographs, or of other data if
            the overrides name them.

    Raises:
        UserError: for an unknown operator, preset or field, a start that only studies can use, or if no universal
            encoder ships for the data and the autoencoder.
    """
    named = "degradation.kind" if isinstance(operator, str) else "degradation"
    overrides = _with_domain(_with_size(overrides), named, operator)
    if preset is None:
        photos = overrides.get("data.kind", "tiny_imagenet") == "tiny_imagenet" or _pretrained(overrides) is not None
        preset = PHOTOGRAPHS if photos else OTHERS

    theirs = any(path.startswith(("solver", "sampler", "start.kind")) for path in overrides)
    few = {} if theirs else FEWER_STEPS if preset == PHOTOGRAPHS else FEW_STEPS

    def cell_with(chosen: Mapping[str, Any], given: Mapping[str, Any] = overrides) -> Evaluate:
        cell = base_cell("robustness", preset, {named: operator, **few, **chosen, **given})
        assert isinstance(cell, Evaluate)
        return cell

    # what ships does not depend on these, and they may not fit the cell's own encoder
    others = {path: v for path, v in overrides.items() if not (_is_in(path, ENCODER) or _is_in(path, "start"))}
    without = cell_with({}, others)
    universal = _universal(without)
    if encoder is EncoderChoice.AUTO:
        encoder = _automatic(without.degradation, universal, overrides)
    match encoder:
        case EncoderChoice.NONE:
            residual = {} if "start.kind" in overrides else {"start.variance": "residual"}
            cell = cell_with({f"{ENCODER}.kind": "none", **residual})
        case EncoderChoice.UNIVERSAL:
            cell = cell_with({} if universal is None else {ENCODER: universal})
            if universal is None or cell.severity_encoder.canonical() != universal.canonical():
                raise UserError(
                    "no universal encoder ships for this data and autoencoder: use encoder quick, matched or none"
                )
        case EncoderChoice.MATCHED:  # trained for this operator, including its noise
            same = {f"{ENCODER}.{k}": v for k, v in overrides.items() if k.startswith("degradation.")}
            cell = cell_with({f"{ENCODER}.{named}": operator, **same})
        case _:
            chosen = {f"{ENCODER}.kind": "quick"}
            if overrides.get(f"{ENCODER}.kind", "quick") == "quick" and "start.kind" not in overrides:
                chosen["start.channel"] = "mmse"  # least squares makes the error independent of z_hat
            cell = cell_with(chosen)
            recipe = cell.severity_encoder
            if isinstance(recipe, FittedRecipe) and (recipe.images == "prior" or not cell.data.is_present()):
                cell = cell_with({f"{ENCODER}.images": "prior", f"{ENCODER}.num_images": NUM_SAMPLES, **chosen})
    if isinstance(cell.start, EqualCost):
        raise UserError("start.kind=equal_cost needs the costs of a study's images: it cannot be used to restore")
    if (folder := _shipped(cell)) is not None:
        cell = cell.replace({"autoencoder.source": str(folder), "prior.source": str(folder)})
    if encoder is EncoderChoice.UNIVERSAL and not overrides.keys() & {"start", "start.kind", "start.variance"}:
        cell = _with_what_ships(cell)
    return cell


def _pretrained(overrides: Mapping[str, Any]) -> ModelFolder | None:
    """Somebody else's model, if the overrides name one."""
    if overrides.get("prior.kind") != "pretrained" or "prior.source" not in overrides:
        return None
    return read_model(str(overrides["prior.source"]), overrides.get("prior.revision"))


def _with_size(overrides: Mapping[str, Any]) -> Mapping[str, Any]:
    """The overrides; where a pretrained model has no clean images at hand, with the size that it was trained on."""
    model = _pretrained(overrides)
    if model is None or TinyImageNet().is_present() or any(_is_in(path, "data") for path in overrides):
        return overrides
    return {"data.kind": "none", "data.size": model.image_size(), **overrides}


def _with_domain(overrides: Mapping[str, Any], named: str, operator: str | Degradation) -> Mapping[str, Any]:
    """The overrides; for data of another domain that a pair ships for, with that pair. Sound has one by default."""
    if any(_is_in(path, part) for path in overrides for part in ("autoencoder", "prior")):
        return overrides
    kind = overrides.get("data.kind")
    if kind is None and not any(_is_in(path, "data") for path in overrides):
        degradation = Evaluate().replace({named: operator}).degradation
        kind = SpokenDigits().kind if degradation.measures_sound else None
    for folder in zoo.folders() if kind not in (None, *KNOWN) else ():
        recipe = zoo.read_recipe(folder)
        if recipe["data"]["kind"] == kind:
            size = {"data.size": recipe["data"]["size"], "data.channels": recipe["data"]["channels"]}
            pair = {part: {"kind": "unet", **recipe[part]} for part in ("autoencoder", "prior")}
            return {"data.kind": kind, **size, **pair, **overrides}
    return overrides


def _with_what_ships(cell: Evaluate) -> Evaluate:
    """The cell with the best variance whose statistics ship with the encoder, and that its start rule can use."""
    for variance in ("non_blind", "fused"):
        try:
            chosen = cell.replace({"start.variance": variance})
        except UserError:  # it cannot be recalibrated
            continue
        if chosen.shipped_non_blind() is not None or chosen.shipped_fusion() is not None:
            return chosen
    return cell.replace({"start.variance": "encoder"})


def load_restorer(cell: Evaluate, runtime: Runtime, fitted: Fitted | None = None) -> Restorer:
    """The restorer of a cell, with the encoder's statistics that ship with it, if its start rule needs them.

    Args:
        fitted: an estimator to use instead of the cell's.
    """
    return cell.restorer(runtime, fitted, shipped_statistics=True)


def with_noise(cell: Evaluate, noise_std: float) -> Evaluate:
    """The cell for measurements with this noise level; a matched encoder is trained with it too.

    A variance that ships for the operator at another noise level is replaced by `fused`.
    """
    overrides = {"degradation.noise_std": noise_std}
    encoder = cell.severity_encoder
    if isinstance(encoder, SeverityRecipe) and encoder.degradation == cell.degradation:
        overrides["severity_encoder.degradation.noise_std"] = noise_std
    noisy = cell.replace(overrides)
    if cell.shipped_non_blind() is not None and noisy.shipped_non_blind() is None and isinstance(cell.start, SNRMatch):
        return noisy.replace({"start.variance": "fused"})
    return noisy


def _automatic(
    degradation: Degradation, universal: SeverityRecipe | None, overrides: Mapping[str, Any]
) -> EncoderChoice:
    """The encoder that ships if it knows the operator, else one that is fitted to it."""
    if own := {path for path in overrides if _is_in(path, ENCODER)}:
        # a kind of the user's choice, or settings that only fitted encoders have, or of one that is trained
        fitted = {f"{ENCODER}.{name}" for name in FittedRecipe.model_fields.keys() - SeverityRecipe.model_fields.keys()}
        return EncoderChoice.QUICK if own & {f"{ENCODER}.kind", *fitted} else EncoderChoice.MATCHED
    known = () if universal is None else members_of(universal.degradation)
    is_known = degradation.kind in {member.kind for member in known}
    return EncoderChoice.UNIVERSAL if is_known else EncoderChoice.QUICK


def _universal(cell: Evaluate) -> SeverityRecipe | None:
    """The universal severity encoder that ships for the networks of a cell; None if there is none."""
    folder = _shipped(cell)
    if folder is None or not (folder / SHIPPED / zoo.RECIPE).is_file():
        return None
    recipe = {**zoo.read_recipe(folder / SHIPPED)[ENCODER], "source": str(folder / SHIPPED)}
    encoder = cell.replace({ENCODER: recipe}).severity_encoder
    return encoder if isinstance(encoder, SeverityRecipe) else None


def _shipped(cell: Evaluate) -> Path | None:
    """The folder of the autoencoder and prior of a cell, if they ship; the images need not be on this machine."""
    autoencoder, prior, data = cell.autoencoder, cell.prior, cell.data
    if not isinstance(autoencoder, ArchitectureRecipe) or {autoencoder.source, prior.source} != {"auto"}:
        return None
    published = {"kind": data.kind, "size": data.model_dump(mode="json")["size"], "channels": data.channels}
    if data.model_dump(mode="json", exclude_defaults=True).keys() - published.keys():  # a selection, or the user's own
        return None
    return zoo.find_without_images(
        {"data": published, "autoencoder": autoencoder.canonical(), "prior": prior.canonical()}
    )


def _is_in(path: str, field: str) -> bool:
    """Whether an override sets a field or a part of it."""
    return path == field or path.startswith(f"{field}.")
