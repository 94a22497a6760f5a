"""Arrays from other people's .npy and .npz files: sizes are checked before memory is used, nothing is unpickled."""

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from workbench.core.config import UserError
from workbench.core.foreign import readable
from workbench.data.picture import Picture, on_unit_scale, refuse_far, unfit, white_of

SAVE = "save plain arrays with numpy.save or numpy.savez"
LONGEST_HEADER = 10_000
"""Bytes; numpy's own limit for headers."""
BOMB = 200
"""An archive member that unpacks to this multiple of its size, and to more than BOMB_BYTES, is rejected."""
BOMB_BYTES = 2**30
OTHER_ORDERS = {"H x W x C x N": (3, 0, 1, 2), "C x H x W x N": (3, 1, 2, 0)}
"""Other layouts of images, and how to convert them to N x H x W x C."""


def open_array(path: Path) -> np.ndarray:
    """The array of an .npy file, mapped read-only, or the only array of an .npz, in memory.

    Raises:
        UserError: if the file cannot be read, is truncated, or is an archive of several arrays.
    """
    if _is_archive(path):
        arrays = read_archive(path)
        if len(arrays) != 1:
            names = ", ".join(arrays) or "none"
            raise UserError(f"{path} is an archive of {len(arrays)} arrays ({names}): save one of them with numpy.save")
        return next(iter(arrays.values()))
    with readable(path, ".npy", remedy=SAVE):
        with path.open("rb") as file:
            _check_header(file, path.stat().st_size, str(path))
        return np.load(path, mmap_mode="r", allow_pickle=False, max_header_size=LONGEST_HEADER)


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file by name.

    Raises:
        UserError: if the file cannot be read, is truncated, or claims more data than it can contain.
    """
    with readable(path, ".npz", remedy="save plain arrays by name with numpy.savez"), zipfile.ZipFile(path) as archive:
        arrays = {}
        for member in archive.infolist():
            key = member.filename.removesuffix(".npy")
            where = f"{path}:{key}"
            if member.file_size > max(BOMB_BYTES, BOMB * member.compress_size):
                raise UserError(
                    f"{where} would unpack to {member.file_size:,} bytes, {BOMB} times its size: not loaded"
                )
            with archive.open(member) as file:
                _check_header(file, member.file_size, where)
            with archive.open(member) as file:
                arrays[key] = npy.read_array(file, allow_pickle=False, max_header_size=LONGEST_HEADER)
                file.read(1)  # read to the end, where the checksum is compared
        return arrays


def pictures_in(path: Path, white: float | None = None, channels: int | None = None) -> list[Picture]:
    """Read the images in an .npy or .npz file, as described in `reading.read_pictures`.

    Raises:
        UserError: for an array that is not an image, or floats that are not finite.
    """
    if not _is_archive(path):
        return _pictures(open_array(path), path, "", None, white, channels)
    arrays = read_archive(path)
    if not arrays:
        raise UserError(f"{path} has no arrays")
    if "y" not in arrays:
        return [
            picture for key, stored in arrays.items() for picture in _pictures(stored, path, key, None, white, channels)
        ]
    names = arrays.get("names")
    if unknown := [key for key in arrays if key not in ("y", "names")]:
        raise UserError(f"{path} contains y and also {', '.join(unknown)}: only y (N images) and names are allowed")
    return _pictures(arrays["y"], path, "", names, white, channels)


def as_batch(stored: np.ndarray, where: str, channels: int | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """(an array of several images as (N, H, W, C); what was transposed).

    N x C x H x W, torch's layout, is the only interpretation if C is a number of channels and W is not.

    Args:
        channels: what C may be; of 1, 3 or None: 1 or 3.

    Raises:
        UserError: for any other shape; for another known layout, the message says how to transpose.
    """
    shape, known = stored.shape, (channels,) if channels not in (None, 1, 3) else (1, 3)
    if stored.ndim == 3 and _images_last(stored):
        raise UserError(
            f"{where} has shape {shape}, which looks like H x W x N: transpose it with numpy.moveaxis(images, -1, 0), "
            "or, if it is N x H x W, save images[..., None]"
        )
    if stored.ndim == 3:
        return stored[..., None], ()
    if stored.ndim == 4 and shape[-1] in known:
        return stored, ()
    if stored.ndim == 4 and shape[1] in known:
        return stored.transpose(0, 2, 3, 1), (f"shape {shape} read as N x C x H x W",)
    for order, axes in OTHER_ORDERS.items():
        if stored.ndim == 4 and shape[axes[3]] in known and shape[-1] > 4:
            raise UserError(
                f"{where} has shape {shape}, which looks like {order}: transpose it with "
                f"numpy.transpose(images, {axes})"
            )
    expected = f"N x H x W or N x H x W x C with C {' or '.join(map(str, known))}"
    remedy = "" if channels is None else "; for images of another number of channels set data.channels"
    raise UserError(f"{where} has shape {shape}, expected {expected}{remedy}")


def _images_last(stored: np.ndarray) -> bool:
    """Whether an array expected to be (N, H, W) looks like (H, W, N).

    It does if the first two lengths are equal and the last differs, or if the last is the longest and values change
    less along the first: neighbouring pixels are alike, and different images are not.
    """
    height, width, number = stored.shape
    if height == width:
        return number not in (width, 1, 2, 3, 4)
    if number <= max(height, width) or 0 in stored.shape:
        return False
    middle = tuple(slice(max(0, length // 2 - 16), length // 2 + 16) for length in stored.shape)
    block = np.asarray(stored[middle], np.float64)
    return bool(2 * np.abs(np.diff(block, axis=0)).mean() < np.abs(np.diff(block, axis=2)).mean())


def _pictures(
    stored: np.ndarray, path: Path, key: str, names: np.ndarray | None, white: float | None, channels: int | None
) -> list[Picture]:
    where = f"{path}:{key}" if key else str(path)
    if stored.dtype.kind not in "buf" or (stored.dtype.kind == "u" and stored.dtype.itemsize > 2):
        raise UserError(f"{where} {unfit(stored.dtype)}")
    if 0 in stored.shape:
        raise UserError(f"{where} is empty: its shape is {stored.shape}")
    is_one = stored.ndim == 2 or (stored.ndim == 3 and stored.shape[-1] in (1, 3, channels) and names is None)
    batch, turned = (stored.reshape(1, *stored.shape[:2], -1), ()) if is_one else as_batch(stored, where, channels)
    if stored.ndim == 3 and len(batch) == 3:
        turned = (f"shape {stored.shape} read as three greyscale images",)
    batch = batch.astype(batch.dtype.newbyteorder("="), copy=False)
    peak = float(batch.max())
    value, notes = white_of(batch.dtype, peak, white)
    pixels = on_unit_scale(batch, value)
    refuse_far(pixels, where)
    titles = _titles(path, key, None if is_one else len(batch), names)
    num_channels = pixels.shape[-1]
    return [
        Picture(title, one, num_channels, (*turned, *notes), value, peak, batch.dtype)
        for title, one in zip(titles, pixels, strict=True)
    ]


def _titles(path: Path, key: str, count: int | None, names: np.ndarray | None) -> list[str]:
    """Names of the images of one array; `count` is None if the array is a single image."""
    inner = f"{path.name}:{key}" if key else path.name
    if count is None:
        return [inner]
    if names is None:
        return [f"{inner}:{number}" for number in range(count)]
    if names.dtype.kind not in "US" or names.shape != (count,):
        raise UserError(f"names in {path} must be {count} strings, got {names.dtype} of shape {names.shape}")
    texts = [name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name for name in names.tolist()]
    titles = [f"{path.name}:{name}" for name in texts]
    if len(set(titles)) < count:
        raise UserError(f"names in {path} contain a duplicate")
    return titles


def _is_archive(path: Path) -> bool:
    with readable(path, "the array", remedy=SAVE), path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _check_header(file: Any, size: int, where: str) -> None:
    """Reject an array that claims more data than the file or the machine has, or that contains Python objects.

    Args:
        file: binary file, at the start of the array.
        size: size of the file in bytes.
        where: name of the array in messages.
    """
    version: Any = npy.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(file, max_header_size=LONGEST_HEADER)
    else:
        # version 3 only differs in the encoding of field names, which images do not have
        shape, _, dtype = npy.read_array_header_2_0(file, max_header_size=LONGEST_HEADER)
    if dtype.kind not in "biufcUS":
        raise UserError(f"{where} {unfit(dtype)}")
    if any(length < 0 for length in shape):
        raise UserError(f"{where} has shape {shape}")
    claimed, held = math.prod(shape) * dtype.itemsize, size - file.tell()
    if claimed > held:
        raise UserError(
            f"{where} claims {claimed:,} bytes for shape {shape} but has {held:,}: it is truncated or damaged"
        )
