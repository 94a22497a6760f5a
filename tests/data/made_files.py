"""Small image files of kinds that Pillow does not write."""

import io
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image


def png16(pixels: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 16 bits, (H, W, 1 to 4) uint16, with more chunks before its pixels."""
    height, width, channels = pixels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def compressed_tiff16(pixels: np.ndarray, compression: str) -> bytes:
    """A TIFF of 16-bit colour, (H, W, 3) uint16, compressed as Pillow does it for a grey picture of the same bytes."""
    height, width, channels = pixels.shape
    stream = io.BytesIO()
    Image.fromarray(pixels.reshape(height, -1)).save(stream, "TIFF", compression=compression)
    stream.seek(0)
    with tifffile.TiffFile(stream) as file:
        page = file.pages.first
        offset, count, kind = page.dataoffsets[0], page.databytecounts[0], int(page.compression)
    strip = stream.getvalue()[offset : offset + count]
    bits_at, strip_at = 8 + 2 + 9 * 12 + 4, 8 + 2 + 9 * 12 + 4 + 6
    tags = [
        *((256, width), (257, height), (258, bits_at), (259, kind), (262, 2), (273, strip_at)),
        *((277, channels), (278, height), (279, len(strip))),
    ]
    entries = b"".join(
        struct.pack("<HHII", tag, 4, 1, value) if tag != 258 else struct.pack("<HHII", tag, 3, channels, value)
        for tag, value in tags
    )
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + struct.pack("<3H", 16, 16, 16) + strip
