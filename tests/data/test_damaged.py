"""Damaged files of every kind that is read: each is refused in one line, or read; nothing else comes out."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from data.made_files import compressed_tiff16, png16
from PIL import Image

from workbench.core.config import UserError
from workbench.data.reading import read_pictures

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (12, 10, 4), dtype=np.uint16)
CHANGES = 60
"""Damaged versions of each file."""


def pillow(kind: str, mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(COLOUR).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def saved(write: object, *arrays: np.ndarray, **named: np.ndarray) -> bytes:
    stream = io.BytesIO()
    write(stream, *arrays, **named)
    return stream.getvalue()


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112], tags[0x010E], tags[0x011A] = 6, "a description", 72.0
    tags.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    return tags


FILES = {
    "png": pillow("PNG"),
    "palette.png": pillow("PNG", "P", transparency=3),
    "exif.png": pillow("PNG", exif=exif()),
    "16.png": png16(DEEP[..., :1]),
    "rgba16.png": png16(DEEP),
    "jpg": pillow("JPEG"),
    "exif.jpg": pillow("JPEG", exif=exif()),
    "cmyk.jpg": pillow("JPEG", "CMYK"),
    "bmp": pillow("BMP"),
    "gif": pillow("GIF", save_all=True, append_images=[Image.fromarray(COLOUR[::-1].copy())]),
    "webp": pillow("WEBP", exif=exif()),
    "tga": pillow("TGA"),
    "pgm": pillow("PPM", "L"),
    "16.ppm": b"P6 10 12 65535\n" + DEEP[..., :3].tobytes(),
    "pbm": pillow("PPM", "1"),
    "jp2": pillow("JPEG2000"),
    "avif": pillow("AVIF"),
    "tif": pillow("TIFF", exif=exif()),
    "lzw.tif": pillow("TIFF", compression="tiff_lzw"),
    "16.tif": tiff(DEEP[..., :3], photometric="rgb"),
    "zlib16.tif": tiff(DEEP[..., :3], photometric="rgb", compression="zlib", predictor=True),
    "lzw16.tif": compressed_tiff16(DEEP[..., :3], "tiff_lzw"),
    "float.tif": tiff(DEEP.astype(np.float32)[..., 0] / 65535, extratags=[(0x0112, 3, 1, 6, True)]),
    "npy": saved(np.save, COLOUR),
    "float.npy": saved(np.save, DEEP / 65535),
    "npz": saved(np.savez, y=DEEP[None, ..., :3] / 65535, names=np.array(["a"])),
    "compressed.npz": saved(np.savez_compressed, a=COLOUR, b=COLOUR[..., 0]),
}


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut, with bytes changed (mostly in the header, where it hurts), or with some missing in the middle."""
    match rng.integers(4):
        case 0:
            return content[: rng.integers(len(content))]
        case 1:
            at = rng.integers(len(content))
            return content[:at] + content[at + rng.integers(1, 20) :]
        case _:
            changed = bytearray(content)
            end = min(len(content), 200) if rng.random() < 0.7 else len(content)
            for at in rng.integers(end, size=rng.integers(1, 6)):
                changed[at] = rng.choice([0, 255, rng.integers(256), changed[at] ^ (1 << rng.integers(8))])
            return bytes(changed)


@pytest.mark.parametrize("kind", FILES)
def test_damaged_files_end_in_one_line_or_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    path.write_bytes(FILES[kind])
    whole = read_pictures(path)
    rng = np.random.default_rng(list(kind.encode()))
    num_refused = 0
    for _ in range(CHANGES):
        path.write_bytes(damaged(FILES[kind], rng))
        refused = None
        try:
            pictures = read_pictures(path)
        except UserError as error:
            refused = str(error)
        if refused is None:
            assert pictures
            assert all(picture.pixels.ndim == 3 for picture in pictures)
            continue
        num_refused += 1
        assert "\n" not in refused
        assert path.name in refused
        assert len(refused) < len(str(path)) + 500
    assert whole
    assert num_refused > 0
