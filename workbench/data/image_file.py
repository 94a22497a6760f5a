"""Reading one image file at its full bit depth."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from workbench.core.config import UserError
from workbench.core.foreign import FOREIGN, readable
from workbench.data.picture import Picture, on_unit_scale, refuse_far, unfit, white_of

PNG = b"\x89PNG\r\n\x1a\n"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ORIENTATION = 0x0112
"""The EXIF and TIFF tag of an image's orientation."""
ON_WHITE = "transparency blended with white"
FIRST = "only the first of several frames"
UNTURNED = "EXIF damaged, orientation ignored"
NO_PROFILE = "CMYK converted without its colour profile"
REDUCED = "reduced from more than 8 bits to 8"
MOST_UNPACKED = 2000
"""No compression of TIFF expands a byte to more than this."""

Read = tuple[np.ndarray, tuple[str, ...], float | None]
"""(pixels as stored, (H, W, 1 or 3), upright and on white; notes; the value that the file declares as white)."""


def read_image(file: Path, white: float | None = None) -> Picture:
    """Read an image file: upright, on white if it is transparent, with 1 channel if it is greyscale, else 3.

    8-bit files give uint8, deeper ones float32 with white at 1.

    Args:
        white: the value of white; None: as declared by the file, or inferred from type and values (`white_of`).

    Raises:
        UserError: if the file cannot be read, or the value of white is unknown.
    """
    stored, notes, stated = read_stored(file)
    peak = float(stored.max()) if stored.size else 0.0
    # only the whole folder shows whether bytes of 0 and 1 are black and white
    is_plain = white is None and stored.dtype == np.uint8
    value, more = white_of(stored.dtype, peak, 255 if is_plain else white or stated)
    pixels = on_unit_scale(stored, value)
    refuse_far(pixels, f"the image {file}")
    return Picture(file.name, pixels, pixels.shape[-1], (*notes, *more), value, peak, stored.dtype)


def read_stored(file: Path) -> Read:
    """Read an image file with its values as stored: uint8, uint16 or a float.

    Raises:
        UserError: if the file cannot be read.
    """
    from PIL import Image

    with readable(file, "the image", Image.DecompressionBombError), warnings.catch_warnings():
        # the problems that these warn of are reported or rejected here
        warnings.simplefilter("ignore")
        for library in ("PIL", "tifffile"):
            logging.getLogger(library).setLevel(logging.CRITICAL)
        with file.open("rb") as opened:
            head = opened.read(26)
        if head.startswith(TIFF):
            read = _read_tiff(file)
        else:
            with Image.open(file) as image:
                is_deep = head.startswith(PNG) and head[24:25] == b"\x10"
                read = _read_deep_png(file, image) if is_deep else _read_with_pillow(file, image)
        if not np.isfinite(read[0]).all():
            raise UserError(f"the image {file} contains values that are not finite")
        stored, notes, stated = read
        # in native byte order, so that dtypes can be compared
        return stored.astype(stored.dtype.newbyteorder("="), copy=False), notes, stated


def _read_with_pillow(file: Path, image: Any) -> Read:
    """Read with Pillow, which reduces colour to 8 bits."""
    from PIL import Image

    # a phone's JPEG contains a preview next to the image
    notes = [FIRST] if image.format != "MPO" and getattr(image, "n_frames", 1) > 1 else []
    notes += [REDUCED] if _is_deeper(file, image) else []
    image.load()
    orientation, more = _orientation(image)
    notes += more
    if image.mode == "F" or image.mode.startswith("I"):
        if image.mode == "I" and image.format != "PPM":
            raise UserError(f"the image {file} {unfit(np.dtype(np.int32))}")
        stored = np.asarray(image)[..., None]
        return _turned(stored if image.mode == "F" else stored.astype(np.uint16), orientation), tuple(notes), None
    notes += [NO_PROFILE] if image.mode == "CMYK" else []
    is_grey = image.mode in ("1", "L", "LA", "La")
    plain = image
    if image.has_transparency_data:
        over = image.convert("RGBA")
        if over.getextrema()[3][0] < 255:
            notes.append(ON_WHITE)
            plain = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    stored = np.array(plain.convert("L" if is_grey else "RGB"))
    if is_grey:
        stored = stored[..., None]
    elif image.mode == "P" and (stored[..., :1] == stored).all():  # a greyscale palette
        stored = stored[..., :1]
    return _turned(stored, orientation), tuple(notes), None


def _read_deep_png(file: Path, image: Any) -> Read:
    """A PNG with 16 bits per channel, which Pillow reduces to 8 except for plain greyscale."""
    clear = image.info.get("transparency")
    layout = image.tile[0].args if image.tile else ""
    image.load()
    orientation, notes = _orientation(image)
    if image.mode.startswith("I"):
        stored = np.asarray(image).astype(np.uint16)[..., None]
    else:
        stored = _deep_colours(file, image.mode, grey=layout == "LA;16B")
    if clear is not None and stored.shape[-1] in (1, 3):
        opaque = (stored != np.asarray(clear)).any(-1, keepdims=True)
        stored = np.concatenate([stored, opaque * np.uint16(65535)], -1)
    if stored.shape[-1] in (2, 4):
        stored, more = _on_white(stored)
        notes += more
    return _turned(stored, orientation), tuple(notes), None


def _read_tiff(file: Path) -> Read:
    """A TIFF: 8-bit files by Pillow, deeper ones by tifffile, which supports every numpy dtype."""
    import tifffile
    from PIL import Image

    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        dtype, bits = page.dtype, page.bitspersample
        _refuse_bomb(page, file)
        if dtype is None or dtype == np.uint8 or bits < 8:
            with Image.open(file) as image:
                return _read_with_pillow(file, image)
        if not (dtype == np.uint16 or dtype.kind == "f"):
            raise UserError(f"the image {file} {unfit(dtype)}")
        notes = [FIRST] if len(tiff.pages) > 1 else []
        try:
            stored = page.asarray()
            orientation = getattr(page.tags.get("Orientation"), "value", None)
        except (ValueError, KeyError) as error:
            if "imagecodecs" not in str(error):
                raise
            stored, orientation = _unpacked_by_pillow(file, page), None
        if page.axes.startswith("S"):  # planar: one channel after the other
            stored = np.moveaxis(stored, 0, -1)
        stored = stored[..., None] if stored.ndim == 2 else stored
        if stored.ndim != 3:
            raise UserError(f"the image {file} is not two-dimensional: {page.axes} {page.shape}")
        stated = _stated_white(page, bits)
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            if dtype.kind == "f":
                raise UserError(f"the image {file} declares its lowest value as white: save it with black as 0")
            stored = np.uint16(stated or 65535) - stored
        elif page.photometric not in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB):
            raise UserError(f"the image {file} is neither greyscale nor RGB: save it as RGB")
        stored, more = _without_extra(stored, page, file)
    return _turned(stored, orientation), (*notes, *more), stated


def _without_extra(stored: np.ndarray, page: Any, file: Path) -> tuple[np.ndarray, list[str]]:
    """The colours of a TIFF, blended with white if it has an alpha channel."""
    extra = [int(kind) for kind in page.extrasamples]
    num_colours = stored.shape[-1] - len(extra)
    if num_colours not in (1, 3):
        raise UserError(f"the image {file} has {stored.shape[-1]} channels: save it as greyscale or RGB")
    if extra and extra[0] in (1, 2):  # alpha, premultiplied or not
        return _on_white(stored[..., : num_colours + 1], multiplied=extra[0] == 1)
    return stored[..., :num_colours], ["channels other than colour ignored"] if extra else []


def _unpacked_by_pillow(file: Path, page: Any) -> np.ndarray:
    """A TIFF with a compression that tifffile does not support, turned upright."""
    from PIL import Image

    with Image.open(file) as image:
        mode = image.mode
        if mode == "F" or mode.startswith("I;"):
            return np.array(image)
    if mode not in ("RGB", "RGBA") or page.bitspersample != 16 or page.dtype.kind != "u" or page.planarconfig != 1:
        raise UserError(f"the image {file} has an unsupported compression: save it without compression")
    return _deep_colours(file, mode)


def _deep_colours(file: Path, mode: str, *, grey: bool = False) -> np.ndarray:
    """(H, W, C) uint16 of a 16-bit file, of which Pillow keeps the upper 8 bits.

    Args:
        mode: Pillow's, RGB or RGBA.
        grey: the file has greyscale and alpha.
    """
    from PIL import Image

    def read(layout: str) -> np.ndarray:
        with Image.open(file) as image:
            image.tile = [tile._replace(args=_with_layout(tile.args, layout)) for tile in image.tile]
            return np.array(image).astype(np.uint16)

    if grey:  # four bytes: upper and lower byte of each
        quads = read("RGBA")
        return quads[..., ::2] * 256 + quads[..., 1::2]
    with Image.open(file) as image:
        order = _layout(image.tile[0].args)[-1]
    # read in the other byte order, the lower byte is where the upper one was; N is the native order
    upper, lower = ("B", "L") if order == "B" or (order == "N" and not np.little_endian) else ("L", "B")
    return read(f"{mode};16{upper}") * 256 + read(f"{mode};16{lower}")


def _layout(args: Any) -> str:
    """Pillow's name for the pixel layout in the file, from a tile's arguments."""
    return args if isinstance(args, str) else str(args[0])


def _with_layout(args: Any, layout: str) -> Any:
    return layout if isinstance(args, str) else (layout, *args[1:])


def _stated_white(page: Any, bits: int) -> float | None:
    """White as declared by a TIFF's tags: packed 12 bits, or 16 bits with the highest value given."""
    if page.dtype.kind == "f":
        return None
    if bits < 16:
        return float(2**bits - 1)
    highest = getattr(page.tags.get("MaxSampleValue"), "value", None)
    highest = max(highest) if isinstance(highest, tuple) and highest else highest
    return float(highest) if highest in (1023, 4095, 16383) else None


def _refuse_bomb(page: Any, file: Path) -> None:
    """Reject a header that claims more than Pillow's limit, or more than the file has, before allocating memory."""
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and page.imagewidth * page.imagelength * page.imagedepth > 2 * limit:
        raise UserError(
            f"the image {file} claims {page.imagewidth} x {page.imagelength} pixels, more than {2 * limit}: split it"
        )
    held = file.stat().st_size
    claimed = page.imagewidth * page.imagelength * page.imagedepth * page.samplesperpixel * page.bitspersample // 8
    if claimed > (held if page.compression == 1 else MOST_UNPACKED * held):
        raise UserError(f"the image {file} claims {claimed:,} bytes of pixels but has {held:,}: it is damaged")


def _orientation(image: Any) -> tuple[int | None, list[str]]:
    """EXIF's orientation, and a note if the EXIF is damaged."""
    try:
        return image.getexif().get(ORIENTATION), []
    except FOREIGN:
        return None, [UNTURNED]


def _turned(stored: np.ndarray, orientation: object) -> np.ndarray:
    """Turn upright by EXIF's orientation, 1 to 8; other values mean no rotation."""
    flipped = {2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1)}
    turned = {
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
        8: lambda a: np.rot90(a, 1),
    }
    turn = (flipped | turned).get(orientation) if isinstance(orientation, int) else None
    return stored if turn is None else np.ascontiguousarray(turn(stored))


def _on_white(stored: np.ndarray, multiplied: bool = False) -> tuple[np.ndarray, list[str]]:
    """Blend colours with white by a last channel of alpha (16 bits or floats); a note if any pixel is transparent.

    Args:
        multiplied: the colours are premultiplied by alpha.
    """
    colours, alpha = stored[..., :-1], stored[..., -1:]
    full = 65535 if stored.dtype == np.uint16 else 1
    if (alpha >= full).all():
        return colours, []
    share = alpha.astype(np.float64) / full
    on_white = colours * (1 if multiplied else share) + full * (1 - share)
    if stored.dtype == np.uint16:
        return on_white.round().clip(0, full).astype(np.uint16), [ON_WHITE]
    return on_white.astype(stored.dtype), [ON_WHITE]


def _is_deeper(file: Path, image: Any) -> bool:
    """Whether a file that Pillow reads with 8 bits per colour has more, according to its header."""
    if image.mode not in ("RGB", "RGBA", "LA", "L", "YCbCr"):
        return False
    with file.open("rb") as opened:
        head = opened.read(4096)
    match image.format:
        case "PPM":
            words = b" ".join(line.split(b"#")[0] for line in head.splitlines()[:20]).split()
            return words[0] in (b"P3", b"P6", b"P2", b"P5") and words[3:4] != [] and _number(words[3]) > 255
        case "JPEG2000":
            at = head.find(b"\xff\x4f\xff\x51")  # SIZ: after 40 bytes the depth less one of the first channel
            return 0 <= at < len(head) - 42 and (head[at + 42] & 0x7F) + 1 > 8
        case "AVIF":
            at = head.find(b"pixi")  # version and flags, number of channels, depths
            return 0 <= at < len(head) - 9 and head[at + 9] > 8
        case _:
            return False


def _number(word: bytes) -> int:
    return int(word) if word.isdigit() and len(word) < 8 else 0
