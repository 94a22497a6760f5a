"""Restore a user's own degraded images: a folder in, a folder out, with no truth."""

import csv
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.config import UserError
from workbench.data.base import content_ids
from workbench.data.image_folder import SUFFIXES, read_image
from workbench.data.preparation import prepare
from workbench.degradations import Degradation
from workbench.degradations.base import check_severity
from workbench.encoder_choice import EncoderChoice
from workbench.measurement import Measurement
from workbench.severity.untrained import NoEncoder
from workbench.stages.base import Runtime
from workbench.stages.evaluate import Evaluate
from workbench.study import base_cell
from workbench.tensors import Ids, Images, Severities

REPORT = "restored.csv"
UNIVERSAL: Mapping[str, Any] = {
    "severity_encoder.source": "auto",
    "severity_encoder.degradation.kind": "mixture",
    "severity_encoder.num_train_images": 100_000,
    "severity_encoder.batch_size": 64,
}
"""The recipe of the universal severity encoder that ships."""


def restoring_cell(
    operator: str | Degradation, encoder: EncoderChoice, preset: str, overrides: Mapping[str, Any]
) -> Evaluate:
    """The cell that names what restores: networks, operator, start rule and solver, with the user's overrides.

    Args:
        operator: the degradation that the images suffered, or its kind with its other fields as they come.
        preset: of the robustness study, whose cell it is.

    Raises:
        UserError: for an unknown operator, preset or field, or where no universal encoder ships for the data and the
            autoencoder.
    """
    named = "degradation.kind" if isinstance(operator, str) else "degradation"
    chosen: Mapping[str, Any]
    match encoder:
        case EncoderChoice.NONE:
            residual = {} if "start.kind" in overrides else {"start.variance": "residual"}
            chosen = {"severity_encoder.kind": "none", **residual}
        case EncoderChoice.UNIVERSAL:
            chosen = UNIVERSAL
        case EncoderChoice.MATCHED:  # trained for the very operator, noise included
            same = {f"severity_encoder.{k}": v for k, v in overrides.items() if k.startswith("degradation.")}
            chosen = {f"severity_encoder.{named}": operator, **same}
    cell = base_cell("robustness", preset, {named: operator, **chosen, **overrides})
    assert isinstance(cell, Evaluate)
    trained = cell.severity_stage()
    if encoder is EncoderChoice.UNIVERSAL and (trained is None or trained.shipped() is None):
        raise UserError(
            "no universal encoder ships for this data and autoencoder: take another encoder, matched or none"
        )
    return cell


def restore_folder(
    cell: Evaluate, input_folder: Path, output_folder: Path, severity: float, params: Path | None, runtime: Runtime
) -> None:
    """Restore every image of `input_folder` into `output_folder`, with a table of severity, start and cost.

    Args:
        cell: names the networks, the operator, the start rule and the solver.
        severity: the operator's level in [0, 1], for all images.
        params: .npz with the operator's parameters, images in the order of their names; needed where the operator
            draws them at random (a mask, a motion kernel).

    Raises:
        UserError: for a severity outside [0, 1], images that cannot be read or are of another size, parameters that are
            missing or do not fit, or an output folder that cannot be written.
    """
    level = torch.full((1,), float(severity))
    check_severity(level)
    names, y = read_measurements(cell, input_folder)
    level = level.expand(len(y))
    cell.check_operators()
    ids = torch.from_numpy(content_ids(y.numpy()))
    given = read_params(cell.degradation, params, level, ids, y)
    with torch.no_grad():
        made = cell.degradation.A(y[:1], {name: value[:1] for name, value in given.items()})
    if made.shape != y[:1].shape:
        raise UserError(
            f"{cell.degradation.kind} measures {tuple(y.shape[1:])} images as {tuple(made.shape[1:])}, which are no "
            "pictures in a folder: restore them from Python, as workbench.degradations.GivenPhysics shows"
        )
    measurement = cell.degradation.received(y, level, ids, given)
    cell.prior_stage().check()
    cell.check_recalibration()
    make_output(output_folder, input_folder)
    restorer = cell.restorer(runtime)
    names_of: dict[int, list[str]] = {}
    for image_id, name in zip(ids.tolist(), names, strict=True):
        names_of.setdefault(image_id, []).append(name)
    # files of equal content are one image to the solver
    first_of_each = torch.tensor([ids.tolist().index(image_id) for image_id in names_of])
    measurement = measurement.take(first_of_each)
    untrained = isinstance(cell.severity_encoder, NoEncoder)  # predicts nothing
    rows = []
    with runtime.progress.task(f"restoring {len(names)} images") as update:
        for restored in restorer.restore(_batches(measurement.to(runtime.device), runtime.batch_size)):
            for i, image_id in enumerate(restored.ids.tolist()):
                for name in names_of[image_id]:
                    write_image(restored.x_hat[i].cpu(), output_folder / output_name(name))
                    rows.append(
                        {
                            "image": name,
                            "sigma_hat": "" if untrained else float(restored.var_hat[i].sqrt()),
                            "start_sigma": float(restored.start_variance[i].sqrt()),
                            "distrusted": bool(restored.distrusted[i]),
                            "start_timestep": int(restored.start_timestep[i]),
                            "nfe": int(restored.nfe[i]),
                            "diverged": bool(restored.diverged[i]),
                            "seconds": round(float(restored.seconds[i]), 3),
                        }
                    )
            update(len(rows), len(names))
    with (output_folder / REPORT).open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: str(row["image"])))
    runtime.progress.say(f"{len(rows)} images and {REPORT} in {output_folder}")


def read_measurements(cell: Evaluate, folder: Path) -> tuple[list[str], Images]:
    """Names and images on [0, 1] of a folder, by name; nothing is cropped or resized, since y must stay y."""
    if not folder.is_dir():
        raise UserError(f"--input {folder} is not a folder")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise UserError(f"--input {folder} holds no images")
    channels, height, width = cell.data.image_shape
    images = []
    for path in paths:
        pixels = read_image(path)
        if pixels.shape[:2] != (height, width):
            raise UserError(f"{path} is {pixels.shape[1]} x {pixels.shape[0]}, the model restores {width} x {height}")
        images.append(prepare(pixels[None], cell.data.size, channels)[0])
    names: dict[str, str] = {}
    for path in paths:
        other = names.setdefault(output_name(path.name), path.name)
        if other != path.name:
            raise UserError(f"--input {folder}: {other} and {path.name} would both become {output_name(other)}")
    y = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return [path.name for path in paths], y.contiguous().float().div_(255)


def output_name(name: str) -> str:
    """The file that a restored image goes to."""
    return f"{Path(name).stem}.png"


def make_output(folder: Path, input_folder: Path) -> None:
    """The output folder, which must not be the input folder, whose images would be overwritten."""
    if folder.resolve() == input_folder.resolve():
        raise UserError(f"--output {folder} is the input folder: its images would be overwritten")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / REPORT).touch()
    except OSError as error:
        raise UserError(f"--output {folder} cannot be written ({error.strerror})") from None


def read_params(
    degradation: Degradation, path: Path | None, severity: Severities, ids: Ids, y: Images
) -> dict[str, Tensor]:
    """The operator's parameters: from severity alone, with those of the file in their place.

    Raises:
        UserError: for parameters that are missing, cannot be read or do not fit.
    """
    shape = (y.shape[1], y.shape[2], y.shape[3])
    params = dict(degradation.parameters(severity, ids, 0, shape))
    if path is None:
        if degradation.draws_parameters:
            raise UserError(
                f"{degradation.kind} draws its parameters at random: give yours by --params FILE.npz with "
                + ", ".join(f"{name} {tuple(value.shape)}" for name, value in params.items())
            )
        return params
    given = _read_npz(path)
    for name, value in params.items():
        if name not in given:
            raise UserError(f"--params {path} lacks {name}, expected {tuple(value.shape)}")
        if given[name].shape[:1] != value.shape[:1] or given[name].ndim != value.ndim:
            raise UserError(f"{name} in {path} has shape {tuple(given[name].shape)}, expected {tuple(value.shape)}")
        if not bool(given[name].isfinite().all()):
            raise UserError(f"{name} in {path} holds values that are not finite")
    fitting = {name: given[name].to(value.dtype) for name, value in params.items()}
    # a kernel may have a size of its own: whether it fits, the operator itself says
    try:
        fits = degradation.A(y, fitting).shape == y.shape
    except (RuntimeError, ValueError, IndexError):
        fits = False
    if not fits:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in fitting.items())
        raise UserError(f"{degradation.kind} cannot use the parameters in {path} on {tuple(y.shape)} images: {shapes}")
    return fitting


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            loaded: object = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise UserError(f"--params {path} holds one array without a name: save it with numpy.savez")
            return {name: torch.from_numpy(loaded[name]) for name in loaded.files}
    except UserError:
        raise
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or ["it is empty"])[0]
        raise UserError(f"--params {path} cannot be read as .npz: {reason}") from None


def write_image(x: Tensor, path: Path) -> None:
    """A (channel, height, width) image on [0, 1] as PNG."""
    from torchvision.utils import save_image

    save_image(x, path)


def _batches(measurement: Measurement, size: int) -> Iterator[Measurement]:
    for first in range(0, len(measurement), size):
        yield measurement.take(slice(first, first + size))
