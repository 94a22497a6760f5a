"""The operator's parameters from the user, matched to the images."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.tensors import Ids, Severities
from workbench.data.arrays import read_archive
from workbench.degradations import Degradation
from workbench.degradations.base import Params
from workbench.degradations.given import ImagesError
from workbench.experiments.restore.pictures import Measured, printable, some, titles

NAMES = "names"
"""The array of an .npz that names the image of each parameter."""


def parameters(
    degradation: Degradation, path: Path | None, severity: Severities, measured: Measured
) -> tuple[Params, list[str]]:
    """The operator's parameters for each image, and messages for the user.

    Args:
        path: an .npz with one array per parameter, images along the first axis: as many as there are images, in natural
            order of their names, or 1 for all of them. An optional array `names` gives the image of each, with or
            without suffix.

    Raises:
        UserError: for parameters that are missing, unreadable or unsuitable.
    """
    shape = (measured.y.shape[1], measured.y.shape[2], measured.y.shape[3])
    # the ids only affect the values drawn, and only their shape is used here
    default = degradation.parameters(severity, torch.arange(len(measured)), 0, shape)
    if path is None:
        if degradation.draws_parameters:
            raise UserError(
                f"{degradation.kind} draws its parameters at random: pass yours with --params FILE.npz, with "
                + ", ".join(f"{name} {tuple(value.shape)}" for name, value in default.items())
            )
        return default, []
    arrays = read_archive(path)
    names = arrays.pop(NAMES, None)
    tensors = {name: _tensor(array, f"{name} in {path}") for name, array in arrays.items()}
    if missing := [name for name in default if name not in tensors]:
        held = f"; it has {', '.join(map(printable, arrays))}" if arrays else ""
        raise UserError(f"--params {path} lacks {missing[0]}, expected {tuple(default[missing[0]].shape)}{held}")
    spare = [name for name in tensors if name not in default]
    lines = (
        [f"{path}: {', '.join(map(printable, spare))} ignored, not a parameter of {degradation.kind}"] if spare else []
    )
    tensors = {name: tensors[name] for name in default}
    if names is None:
        paired = {name: _for_all(value, len(measured), f"{name} in {path}", lines) for name, value in tensors.items()}
    else:
        place = _places(names, measured.names, path, lines)
        paired = {
            name: _for_all(value, len(names), f"{name} in {path}", lines)[place] for name, value in tensors.items()
        }
    with named(measured):
        given, converted = degradation.given_parameters(paired, shape)
    # a kernel may have any size: the operator checks it
    try:
        fits = degradation.A(measured.y, given).shape == measured.y.shape
    except (RuntimeError, ValueError, IndexError):
        fits = False
    if not fits:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in given.items())
        images = tuple(measured.y.shape)
        raise UserError(f"{degradation.kind} cannot use the parameters in {path} for {images} images: {shapes}")
    return given, [*lines, *converted]


def distinct(ids: Ids, params: Mapping[str, Tensor]) -> Ids:
    """The ids, made distinct for images with the same id and different parameters.

    An image whose y occurs with one set of parameters keeps its id, and so its noise.
    """
    digests = [_digest(params, i) for i in range(len(ids))]
    keys = ids.tolist()
    variants: dict[int, set[str]] = {}
    for key, digest in zip(keys, digests, strict=True):
        variants.setdefault(key, set()).add(digest)
    renamed = [
        key if len(variants[key]) == 1 else randomness.seed_of(key, digest)
        for key, digest in zip(keys, digests, strict=True)
    ]
    return torch.tensor(renamed, dtype=ids.dtype)


@contextmanager
def named(measured: Measured) -> Iterator[None]:
    """Replace positions of images in errors by their names."""
    try:
        yield
    except ImagesError as error:
        who = [measured.names[i] for i in error.images]
        raise UserError(f"{some(who)} ({len(who)} of {len(measured)} images): {error.reason}") from None


def _digest(params: Mapping[str, Tensor], image: int) -> str:
    state = hashlib.sha256()
    for name in sorted(params):
        state.update(name.encode())
        state.update(params[name][image].contiguous().numpy().tobytes())
    return state.hexdigest()


def _tensor(array: np.ndarray, where: str) -> Tensor:
    if array.dtype.kind in "US":
        raise UserError(f"{where} contains text, expected numbers")
    if array.ndim == 0:
        raise UserError(f"{where} is a single number, expected an array with images along the first axis")
    # torch does not support 80 or 128 bits
    widest = {"f": np.float64, "c": np.complex128}.get(array.dtype.kind, array.dtype)
    kept = array.dtype if array.dtype.itemsize <= np.dtype(widest).itemsize else np.dtype(widest)
    with np.errstate(over="ignore"):  # infinite values are rejected later
        return torch.from_numpy(np.ascontiguousarray(array.astype(kept.newbyteorder("="), copy=False)))


def _for_all(value: Tensor, count: int, where: str, lines: list[str]) -> Tensor:
    """One parameter for each of `count` images; a single one is used for all."""
    if len(value) == count:
        return value
    if len(value) == 1:
        lines.append(f"{where}: its single entry is used for all {count} images")
        return value.expand(count, *value.shape[1:])
    raise UserError(
        f"{where} has {len(value)} entries for {count} images: give one per image, or 1 for all (its shape is "
        f"{tuple(value.shape)}, images first)"
    )


def _places(names: np.ndarray, pictures: Sequence[str], path: Path, lines: list[str]) -> Tensor:
    """Positions in the file of each image's parameters, by name with or without suffix."""
    if names.ndim != 1 or names.dtype.kind not in "USiu":
        raise UserError(f"{NAMES} in {path} has shape {names.shape} of {names.dtype}, expected one string per image")
    texts = [n.decode("utf-8", "surrogateescape") if isinstance(n, bytes) else str(n) for n in names.tolist()]
    if twice := [name for name, number in Counter(texts).items() if number > 1]:
        raise UserError(f"{NAMES} in {path} contains {some(twice)} more than once")
    position = {name: i for i, name in enumerate(texts)}
    places = []
    for picture in pictures:
        found = {position[key] for key in titles(picture) if key in position}
        if len(found) > 1:
            raise UserError(f"{NAMES} in {path} contains {printable(picture)} both with and without its suffix")
        places.append(found.pop() if found else -1)
    if lacking := [picture for picture, place in zip(pictures, places, strict=True) if place < 0]:
        raise UserError(f"{NAMES} in {path} lacks {some(lacking)} ({len(lacking)} of {len(pictures)} images)")
    if unused := len(texts) - len(set(places)):
        lines.append(f"{path}: {unused} of {len(texts)} {NAMES} match no image and are ignored")
    return torch.tensor(places)
