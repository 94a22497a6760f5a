"""Restore a user's own degraded images: a folder in, a folder out, with no truth."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from workbench.config import UserError
from workbench.data.base import content_ids
from workbench.data.image_folder import SUFFIXES
from workbench.degradations import Degradation
from workbench.measurement import Measurement
from workbench.stages.base import Runtime
from workbench.stages.evaluate import Evaluate
from workbench.tensors import Ids, Images, Severities

REPORT = "restored.csv"


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
        UserError: for images that cannot be read or are of another size, or parameters that are missing or do not fit.
    """
    names, y = read_measurements(cell, input_folder)
    ids = torch.from_numpy(content_ids(y.numpy()))
    level = torch.full((len(y),), float(severity))
    given = read_params(cell.degradation, params, level, ids, y)
    measurement = Measurement(
        y=y,
        ids=ids,
        noise_std=cell.degradation.noise_level(level, given),
        params=given,
        observed=cell.degradation.observed(given),
        severity=level,
    )
    output_folder.mkdir(parents=True, exist_ok=True)
    restorer = cell.restorer(runtime)
    names_of: dict[int, list[str]] = {}
    for image_id, name in zip(ids.tolist(), names, strict=True):
        names_of.setdefault(image_id, []).append(name)
    # files of equal content are one image to the solver
    first_of_each = torch.tensor([ids.tolist().index(image_id) for image_id in names_of])
    measurement = measurement.take(first_of_each)
    rows = []
    with runtime.progress.task(f"restoring {len(names)} images") as update:
        for restored in restorer.restore(_batches(measurement.to(runtime.device), runtime.batch_size)):
            for i, image_id in enumerate(restored.ids.tolist()):
                for name in names_of[image_id]:
                    write_image(restored.x_hat[i].cpu(), output_folder / f"{Path(name).stem}.png")
                    rows.append(
                        {
                            "image": name,
                            "sigma_hat": float(restored.var_hat[i].sqrt()),
                            "start_timestep": int(restored.start_timestep[i]),
                            "nfe": int(restored.nfe[i]),
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
    from PIL import Image, UnidentifiedImageError

    if not folder.is_dir():
        raise UserError(f"--input {folder} is not a folder")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise UserError(f"--input {folder} holds no images")
    channels, height, width = cell.data.image_shape
    images = []
    for path in paths:
        try:
            with Image.open(path) as image:
                array = np.asarray(image.convert("L" if channels == 1 else "RGB"), dtype=np.float32) / 255
        except (UnidentifiedImageError, OSError):
            raise UserError(f"{path} is not an image that can be read") from None
        if array.shape[:2] != (height, width):
            raise UserError(f"{path} is {array.shape[1]} x {array.shape[0]}, the model restores {width} x {height}")
        images.append(torch.from_numpy(array.reshape(height, width, channels)).permute(2, 0, 1))
    return [path.name for path in paths], torch.stack(images).contiguous()


def read_params(
    degradation: Degradation, path: Path | None, severity: Severities, ids: Ids, y: Images
) -> dict[str, Tensor]:
    """The operator's parameters: from severity alone, with those of the file in their place."""
    shape = (y.shape[1], y.shape[2], y.shape[3])
    params = dict(degradation.parameters(severity, ids, 0, shape))
    if path is None:
        if degradation.draws_parameters:
            raise UserError(
                f"{degradation.kind} draws its parameters at random: give yours by --params FILE.npz with "
                + ", ".join(f"{name} {tuple(value.shape)}" for name, value in params.items())
            )
        return params
    try:
        with np.load(path, allow_pickle=False) as file:
            given = {name: torch.from_numpy(file[name]).float() for name in file.files}
    except (OSError, ValueError) as error:
        raise UserError(f"--params {path} cannot be read as .npz: {str(error).splitlines()[0]}") from None
    for name, value in params.items():
        if name not in given:
            raise UserError(f"--params {path} lacks {name}, expected {tuple(value.shape)}")
        if given[name].shape[0] != len(ids) or given[name].ndim != value.ndim:
            raise UserError(f"{name} in {path} has shape {tuple(given[name].shape)}, expected {tuple(value.shape)}")
    return {name: given[name] for name in params}


def write_image(x: Tensor, path: Path) -> None:
    """A (channel, height, width) image on [0, 1] as PNG."""
    from torchvision.utils import save_image

    save_image(x, path)


def _batches(measurement: Measurement, size: int) -> Iterator[Measurement]:
    for first in range(0, len(measurement), size):
        yield measurement.take(slice(first, first + size))
