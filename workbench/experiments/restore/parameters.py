"""The operator's parameters from the user, matched to the images."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.tensors import Ids, Severities
from workbench.data.arrays import open_array, read_archive
from workbench.data.reading import ARRAYS, PICTURES, list_pictures, read_pictures
from workbench.degradations import Degradation
from workbench.degradations.base import Params
from workbench.degradations.given import ImagesError
from workbench.experiments.restore.pictures import Measured, parts, printable, some, titles

NAMES = "names"
"""The array of an .npz that names the image of each parameter."""


@dataclass(frozen=True)
class Given:
    """The user's parameters of all images.

    Attributes:
        path: the file or folder that they were read from.
        of: the parameters of each image, by its name, without an axis of images.
        lines: messages for the user.
    """

    path: Path
    of: Mapping[str, Mapping[str, Tensor]]
    lines: tuple[str, ...]

    def stacked(self, names: Sequence[str]) -> Params:
        """The parameters of these images, with images along the first axis.

        Raises:
            UserError: if their shapes differ.
        """
        first = self.of[names[0]]
        for name, parameter in ((name, parameter) for name in names for parameter in first):
            shapes = tuple(self.of[name][parameter].shape), tuple(first[parameter].shape)
            if shapes[0] != shapes[1]:
                raise UserError(
                    f"{parameter} in {self.path} has shape {shapes[0]} for {printable(name)}, but {shapes[1]} for "
                    f"{printable(names[0])}, an image of the same size"
                )
        return {parameter: torch.stack([self.of[name][parameter] for name in names]) for parameter in first}


def read_parameters(
    degradation: Degradation, path: Path, names: Sequence[str], image_shape: tuple[int, int, int]
) -> Given:
    """Read the user's parameters of the operator.

    Args:
        path: an .npz with one array per parameter, images along the first axis: as many as there are images, in natural
            order of their names, or 1 for all of them. An optional array `names` gives the image of each, with or
            without suffix. Or a folder with one file per image, of the same name: an .npz of its parameters or, for an
            operator with a single parameter, an .npy or an image (a mask, a kernel).
        names: names of the images.
        image_shape: (channels, height, width) of an image, for messages.

    Raises:
        UserError: for parameters that are missing or unreadable.
    """
    default = _default(degradation, image_shape)
    return (
        _of_folder(degradation, path, names, default) if path.is_dir() else _of_file(degradation, path, names, default)
    )


def parameters(
    degradation: Degradation,
    given: Given | None,
    severity: Severities | None,
    measured: Measured,
) -> tuple[Params, list[str]]:
    """The operator's parameters for each image, and messages for the user.

    Raises:
        UserError: for parameters that are missing or unsuitable.
    """
    shape = degradation.image_shape(measured.y)
    if given is None:
        if degradation.draws_parameters or severity is None:
            default = _default(degradation, shape)
            why = "draws its parameters at random" if degradation.draws_parameters else "needs --severity or parameters"
            raise UserError(
                f"{degradation.kind} {why}: pass yours with --params FILE.npz, with "
                + ", ".join(f"{name} {(len(measured), *size)}" for name, size in default.items())
            )
        # the ids only affect the values drawn
        return degradation.parameters(severity, torch.arange(len(measured)), 0, shape), []
    with named(measured):
        taken, converted = degradation.given_parameters(given.stacked(measured.names), shape)
    if not degradation.measures_images:
        return taken, converted
    # a kernel may have any size: the operator checks it
    try:
        fits = degradation.A(measured.y[:1], {name: value[:1] for name, value in taken.items()}).shape[1:] == shape
    except (RuntimeError, ValueError, IndexError):
        fits = False
    if not fits:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in taken.items())
        images = tuple(measured.y.shape)
        raise UserError(f"{degradation.kind} cannot use the parameters in {given.path} for {images} images: {shapes}")
    return taken, converted


def distinct(ids: Ids, params: Mapping[str, Tensor]) -> Ids:
    """The ids, made distinct for images with the same id and different parameters.

    An image whose y occurs with one set of parameters keeps its id, and so its noise.
    """
    digests = [params_digest(params, i) for i in range(len(ids))]
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


def params_digest(params: Mapping[str, Tensor], image: int) -> str:
    """A digest of one image's parameters."""
    state = hashlib.sha256()
    for name in sorted(params):
        state.update(name.encode())
        state.update(params[name][image].contiguous().numpy().tobytes())
    return state.hexdigest()


def _default(degradation: Degradation, image_shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """The shapes of an image's parameters, by name."""
    made = degradation.parameters(torch.ones(1), torch.zeros(1, dtype=torch.int64), 0, image_shape)
    return {name: tuple(value.shape[1:]) for name, value in made.items() if name not in degradation.derived}


def _of_file(
    degradation: Degradation, path: Path, names: Sequence[str], default: Mapping[str, tuple[int, ...]]
) -> Given:
    arrays = read_archive(path)
    titled = arrays.pop(NAMES, None)
    tensors = {name: _tensor(array, f"{name} in {path}") for name, array in arrays.items()}
    lines = _only_known(degradation, str(path), tensors, {name: (len(names), *size) for name, size in default.items()})
    if titled is None:
        paired = {name: _for_all(tensors[name], len(names), f"{name} in {path}", lines) for name in default}
    else:
        place = _places(titled, names, path, lines)
        paired = {name: _for_all(tensors[name], len(titled), f"{name} in {path}", lines)[place] for name in default}
    of = {image: {name: value[i] for name, value in paired.items()} for i, image in enumerate(names)}
    return Given(path, of, tuple(lines))


def _of_folder(
    degradation: Degradation, path: Path, names: Sequence[str], default: Mapping[str, tuple[int, ...]]
) -> Given:
    files = {parts(file.name)[0]: file for file in list_pictures(path, (*PICTURES, *ARRAYS)).files}
    if lacking := [name for name in names if titles(name)[-1] not in files]:
        raise UserError(f"--params {path} has no file for {some(lacking)} ({len(lacking)} of {len(names)} images)")
    lines: list[str] = []
    of = {}
    for image in names:
        file = files[titles(image)[-1]]
        arrays = read_archive(file) if file.suffix.lower() == ".npz" else _single(degradation, file, default)
        tensors = {name: _tensor(array, f"{name} in {file}", has_images=False) for name, array in arrays.items()}
        lines += _only_known(degradation, str(file), tensors, default)
        of[image] = {name: _without_images(tensors[name], len(size)) for name, size in default.items()}
    return Given(path, of, tuple(lines))


def _single(degradation: Degradation, file: Path, default: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The only parameter of an operator, from an array or an image."""
    if len(default) != 1:
        raise UserError(f"--params {file}: {degradation.kind} has {' and '.join(default)}: save them in an .npz")
    (name,) = default
    if file.suffix.lower() == ".npy":
        return {name: np.array(open_array(file))}
    (picture,) = read_pictures(file)
    pixels = picture.pixels / 255 if picture.pixels.dtype == np.uint8 else picture.pixels
    if not np.ptp(pixels, axis=2).any():  # greyscale, stored in colour
        pixels = pixels[..., :1]
    return {name: np.array(np.moveaxis(pixels, 2, 0))}


def _without_images(value: Tensor, num_axes: int) -> Tensor:
    """One image's parameter without an axis of images of length 1."""
    return value[0] if value.ndim == num_axes + 1 and len(value) == 1 else value


def _only_known(
    degradation: Degradation, where: str, tensors: dict[str, Tensor], default: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """Messages about arrays that are no parameters. Raises UserError if a parameter is missing."""
    if missing := [name for name in default if name not in tensors]:
        held = f"; it has {', '.join(map(printable, tensors))}" if tensors else ""
        raise UserError(f"--params {where} lacks {missing[0]}, expected {default[missing[0]]}{held}")
    spare = [name for name in tensors if name not in default]
    known = f"not a parameter of {degradation.kind}"
    return [f"{where}: {', '.join(map(printable, spare))} ignored, {known}"] if spare else []


def _tensor(array: np.ndarray, where: str, *, has_images: bool = True) -> Tensor:
    if array.dtype.kind in "US":
        raise UserError(f"{where} contains text, expected numbers")
    if array.ndim == 0 and has_images:
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
