"""What the pixels of one image file are, whatever its depth, mode, transparency and orientation."""

import io

import numpy as np
import pytest
import tifffile
from data.made_files import compressed_tiff16, png16
from PIL import Image, ImageCms, ImageOps

from workbench.core.config import UserError
from workbench.data import ImageFolder
from workbench.data.image_file import FIRST, NO_PROFILE, ON_WHITE, REDUCED, UNTURNED, read_image
from workbench.data.preparation import prepare
from workbench.data.reading import list_pictures

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (9, 7, 4), dtype=np.uint16)


@pytest.fixture
def read(tmp_path):
    """The picture in a file of such content."""

    def read(content: bytes, name: str = "x.png"):
        (tmp_path / name).write_bytes(content)
        return read_image(tmp_path / name)

    return read


def saved(image, kind="PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def tiff(pixels, **options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def same(picture, expected, *notes):
    assert picture.notes == notes
    assert picture.pixels.dtype == expected.dtype
    assert picture.num_channels == picture.pixels.shape[-1]
    np.testing.assert_array_equal(picture.pixels, expected)


def unit(stored, white=65535):
    return (stored / white).astype(np.float32)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P", "CMYK", "YCbCr", "LAB"])
def test_eight_bits_are_as_pillow_converts_them(read, mode):
    image = Image.fromarray(COLOUR)
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
    image = image.convert(mode)
    is_grey = mode in ("1", "L")
    expected = np.array(image.convert("L" if is_grey else "RGB")).reshape(9, 7, -1)
    same(read(saved(image, "TIFF")), expected, *([NO_PROFILE] if mode == "CMYK" else []))


def transparent(mode, alpha):
    """(an image file with such alpha, or for a palette the same for all pixels of one colour; colours; alpha)."""
    if mode == "P":
        image = Image.fromarray(COLOUR).quantize(8)
        clear = int(alpha[0, 0])
        content = saved(image, transparency=bytes([clear, *[255] * 7]))
        return content, np.array(image.convert("RGB")), np.where(np.array(image) == 0, clear, 255)
    colours = COLOUR if mode == "RGBA" else COLOUR[..., :1]
    return saved(Image.fromarray(np.concatenate([colours, alpha[..., None]], -1))), colours, alpha


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_transparency_is_put_on_white(read, mode):
    content, colours, alpha = transparent(mode, RNG.integers(0, 255, (9, 7), dtype=np.uint8))
    picture = read(content)
    share = alpha[..., None] / 255
    assert picture.notes == (ON_WHITE,)
    np.testing.assert_allclose(picture.pixels, colours * share + 255 * (1 - share), atol=1)

    content, colours, _ = transparent(mode, np.full((9, 7), 255, np.uint8))
    same(read(content), colours)


def test_a_transparent_colour_is_put_on_white(read):
    picture = read(saved(Image.fromarray(COLOUR), transparency=tuple(map(int, COLOUR[2, 3]))))
    assert picture.pixels[2, 3].tolist() == [255] * 3
    assert picture.notes == (ON_WHITE,)
    np.testing.assert_array_equal(picture.pixels[3:], COLOUR[3:])


@pytest.mark.parametrize("channels", [1, 3])
def test_png_of_16_bits(read, channels):
    same(read(png16(DEEP[..., :channels])), unit(DEEP[..., :channels]))
    opaque = np.concatenate([DEEP[..., :channels], np.full((9, 7, 1), 65535, np.uint16)], -1)
    same(read(png16(opaque)), unit(DEEP[..., :channels]))
    seen = read(png16(np.concatenate([DEEP[..., :channels], DEEP[..., 3:]], -1)))
    share = DEEP[..., 3:] / 65535
    np.testing.assert_allclose(seen.pixels, unit(DEEP[..., :channels]) * share + 1 - share, atol=1e-5)
    assert seen.notes == (ON_WHITE,)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_of_16_bits_with_a_transparent_colour(read, channels):
    clear = (b"tRNS", DEEP[2, 3, :channels].astype(">u2").tobytes())
    picture = read(png16(DEEP[..., :channels], clear))
    assert picture.pixels[2, 3].tolist() == [1] * channels
    np.testing.assert_array_equal(picture.pixels[3:], unit(DEEP[3:, :, :channels]))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("compression", [None, "zlib", "tiff_lzw", "packbits"])
def test_tiff_of_16_bits(read, channels, compression):
    stored = DEEP[..., :channels]
    if compression in (None, "zlib"):
        content = tiff(stored.squeeze(), compression=compression)
    else:  # which tifffile alone does not know
        content = (
            compressed_tiff16(stored, compression)
            if channels == 3
            else saved(Image.fromarray(stored[..., 0]), "TIFF", compression=compression)
        )
    same(read(content, "x.tif"), unit(stored))
    if compression is None:
        same(read(tiff(stored.squeeze(), byteorder=">"), "x.tif"), unit(stored))
        if channels == 3:
            planes = np.ascontiguousarray(np.moveaxis(stored, -1, 0))
            same(read(tiff(planes, photometric="rgb", planarconfig="separate"), "x.tif"), unit(stored))


def test_tiff_of_16_bits_with_alpha_or_more(read):
    share = DEEP[..., 3:] / 65535
    straight = read(tiff(DEEP, photometric="rgb", extrasamples=["unassalpha"]), "x.tif")
    np.testing.assert_allclose(straight.pixels, unit(DEEP[..., :3]) * share + 1 - share, atol=1e-5)
    multiplied = (DEEP[..., :3] * share).round().astype(np.uint16)
    same_again = read(
        tiff(np.concatenate([multiplied, DEEP[..., 3:]], -1), photometric="rgb", extrasamples=["assocalpha"]), "x.tif"
    )
    np.testing.assert_allclose(same_again.pixels, straight.pixels, atol=2e-5)
    other = read(tiff(DEEP, photometric="rgb", extrasamples=["unspecified"]), "x.tif")
    same(other, unit(DEEP[..., :3]), "channels other than colour ignored")
    with pytest.raises(UserError, match=r"x\.tif is neither greyscale nor RGB"):
        read(tiff(DEEP, photometric="separated"), "x.tif")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_of_floats_keeps_what_lies_outside(read, dtype, channels):
    stored = RNG.normal(0.5, 1, (9, 7, channels)).astype(dtype)
    same(
        read(tiff(stored.squeeze(), photometric="rgb" if channels == 3 else "minisblack"), "x.tif"), stored.astype("f4")
    )


def test_white_is_zero_in_some_tiffs(read):
    stored = DEEP[..., :1]
    same(read(tiff(stored[..., 0], photometric="miniswhite"), "x.tif"), unit(65535 - stored))
    same(read(tiff(COLOUR[..., 0], photometric="miniswhite"), "x.tif"), 255 - COLOUR[..., :1])


def test_twelve_bits_that_a_tiff_names(read):
    stored = (DEEP[..., :1] >> 5).astype(np.uint16)
    named = tiff(stored[..., 0], extratags=[(281, 3, 1, 4095, True)])
    same(read(named, "x.tif"), unit(stored, 4095))
    assert read(tiff(stored[..., 0]), "x.tif").notes == (f"no value above {stored.max()} of 65535, read as very dark",)


@pytest.mark.parametrize("bits", [1, 8, 10, 12, 14])
def test_a_highest_value_that_is_white_of_fewer_bits(read, bits):
    stored = np.zeros((9, 7, 1), np.uint16)
    stored[2, 3] = 2**bits - 1
    kind = "black and white" if bits == 1 else f"{bits} bits in 16"
    picture = read(png16(stored))
    same(picture, unit(stored, 2**bits - 1), f"highest value {2**bits - 1} of 65535, read as {kind}")
    stored[2, 4] = 2**bits
    assert read(png16(stored)).pixels.max() == np.float32(2**bits / 65535)


@pytest.mark.parametrize(
    ("kind", "dtype"), [("x.tif", np.int16), ("x.tif", np.int32), ("x.tif", np.uint32), ("x.tif", np.complex64)]
)
def test_types_without_a_white_are_refused(read, kind, dtype):
    with pytest.raises(UserError, match=rf"x\.tif has dtype {np.dtype(dtype)}"):
        read(tiff(np.ones((9, 7), dtype)), kind)


def test_floats_on_another_scale_are_refused(read, tmp_path):
    with pytest.raises(UserError, match=r"has values up to 2\d\d\.\d+, but white must be 1: divide"):
        read(tiff((COLOUR[..., 0] * 0.999).astype(np.float32)), "x.tif")
    with pytest.raises(UserError, match="not finite"):
        read(tiff(np.full((9, 7), np.nan, np.float32)), "x.tif")


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_frames_the_first(read, kind):
    frames = [Image.fromarray(np.full((9, 7), value, np.uint8)) for value in (200, 30)]
    picture = read(
        saved(
            frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
        )
    )
    assert picture.notes == (FIRST,)
    assert np.unique(picture.pixels).tolist() == [200]
    several = read(tiff(DEEP[..., :2].transpose(2, 0, 1), photometric="minisblack"), "x.tif")
    same(several, unit(DEEP[..., :1]), FIRST)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation(read, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(Image.fromarray(COLOUR), kind, exif=exif)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    same(read(content), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_deep_files(read, orientation):
    content = tiff(DEEP[..., 0], extratags=[(0x0112, 3, 1, orientation, True)])
    with Image.open(io.BytesIO(content)) as image:
        expected = np.array(ImageOps.exif_transpose(image))
    same(read(content, "x.tif"), unit(expected[..., None]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = read(png16(DEEP[..., :1], (b"eXIf", exif.tobytes()[6:])))
    same(turned, unit(expected[..., None]))


EXIF = [b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0" * 9, b"", b"MM\0*"]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of what the test itself reads
@pytest.mark.parametrize("damage", EXIF)
def test_damaged_exif_does_not_cost_the_picture(read, damage):
    for kind in ("JPEG", "PNG", "WEBP"):
        content = saved(Image.fromarray(COLOUR), kind, exif=b"Exif\0\0" + damage)
        picture = read(content)
        assert picture.notes in ((), (UNTURNED,))
        with Image.open(io.BytesIO(content)) as image:
            np.testing.assert_array_equal(picture.pixels, np.array(image.convert("RGB")))


def test_more_bits_than_pillow_reads_are_told(read):
    header = b"P6\n# a comment\n7 9\n65535\n"
    assert read(header + DEEP[..., :3].astype(">u2").tobytes(), "x.ppm").notes == (REDUCED,)
    assert read(b"P6 7 9 255\n" + COLOUR.tobytes(), "x.ppm").notes == ()
    same(read(b"P5 7 9 65535\n" + DEEP[..., 0].astype(">u2").tobytes(), "x.pgm"), unit(DEEP[..., :1]))
    grey = Image.fromarray(DEEP[..., 0])
    assert read(saved(grey, "JPEG2000", irreversible=False), "x.jp2").pixels.dtype == np.float32
    assert read(saved(Image.fromarray(COLOUR), "JPEG2000"), "x.jp2").notes == ()


def test_claims_of_gigantic_sizes_are_refused_before_memory_is_taken(read):
    huge = bytearray(tiff(DEEP[..., 0]))
    with tifffile.TiffFile(io.BytesIO(huge)) as file:
        for name in ("ImageWidth", "ImageLength"):
            tag = file.pages.first.tags[name]
            huge[tag.offset + 2 : tag.offset + 12] = b"\x04\0\x01\0\0\0" + np.array([2**20], "<u4").tobytes()
    with pytest.raises(UserError, match="claims 1048576 x 1048576 pixels"):
        read(bytes(huge), "x.tif")
    with pytest.raises(UserError, match=r"cannot read the image .*decompression bomb"):
        read(b"P5 1000000 1000000 255\n", "x.pgm")


def test_files_of_16_bits_and_8_in_one_folder(tmp_path, pictures, save, said):
    save(pictures[:30], tmp_path)
    for row, image in enumerate(pictures[30:]):
        (tmp_path / f"deep{row}.png").write_bytes(png16(image.astype(np.uint16) * 257))
    (store, _) = ImageFolder(path=tmp_path, size=20).load_arrays()
    assert store.dtype == np.float32
    found = {image.tobytes() for image in (store * 255).round().astype(np.uint8)}
    assert found == {image.tobytes() for image in pictures}
    assert said() == f"read 60 images from {tmp_path}, left out 0"


def test_a_folder_of_12_bits_in_16(tmp_path, said):
    images = RNG.integers(0, 4000, (30, 20, 20, 1), dtype=np.uint16)
    images[7, 3, 3] = 4095
    for row, image in enumerate(images):
        (tmp_path / f"{row}.png").write_bytes(png16(image))

    def read(**fields):
        store, _ = ImageFolder(path=tmp_path, size=20, channels=1, **fields).load_arrays()
        return np.sort(store.max((1, 2, 3))), said()

    peaks, line = read()
    np.testing.assert_allclose(peaks, np.sort(images.max((1, 2, 3))) / 4095, rtol=1e-6)
    assert line.endswith(
        "out 0; highest value 4095 of 65535, read as 12 bits in 16 (if white is another value, set data.white)"
    )
    peaks, line = read(white=65535)
    np.testing.assert_allclose(peaks, np.sort(images.max((1, 2, 3))) / 65535, rtol=1e-6)
    assert line.endswith("left out 0")
    (tmp_path / "bright.png").write_bytes(png16(np.full((20, 20, 1), 60000, np.uint16)))
    assert read()[0][-2:] == pytest.approx([4095 / 65535, 60000 / 65535])
    with pytest.raises(
        UserError, match=r"bright\.png has values from 60000 to 60000, outside the range from 0 to white=4095"
    ):
        read(white=4095)


def test_a_folder_of_masks_in_0_and_1(tmp_path, said):
    masks = RNG.integers(0, 2, (30, 20, 20), dtype=np.uint8)
    for row, mask in enumerate(masks):
        Image.fromarray(mask).save(tmp_path / f"{row}.png")
    store, _ = ImageFolder(path=tmp_path, size=20, channels=1).load_arrays()
    assert {image.tobytes() for image in store} == {(mask * 255).tobytes() for mask in masks}
    assert "only values 0 and 1, read as black and white" in said()


def test_floats_in_a_folder_lie_on_the_unit_interval(tmp_path):
    for row in range(30):
        tifffile.imwrite(tmp_path / f"{row}.tif", RNG.random((20, 20), np.float32))
    store, _ = ImageFolder(path=tmp_path, size=20, channels=1).load_arrays()
    assert store.dtype == np.float32
    tifffile.imwrite(tmp_path / "x.tif", np.full((20, 20), 254, np.float32))
    with pytest.raises(UserError, match=r"x\.tif has values from 254 to 254: .*or set it: data.white=255"):
        ImageFolder(path=tmp_path, size=20).load_arrays()


@pytest.mark.parametrize("channels", [1, 3])
def test_eight_bits_are_prepared_as_ever(tmp_path, channels):
    """Ids are hashes of content: every byte is as Pillow's conversion to RGB and the same preparation make it."""
    image = Image.fromarray(RNG.integers(0, 256, (40, 30, 3), dtype=np.uint8))
    tags = Image.Exif()
    tags[0x0112] = 6
    for mode in ("1", "L", "P", "RGB"):
        image.convert(mode).save(tmp_path / f"{mode}.png", exif=tags)
    for name, mode in (("a.jpg", "L"), ("b.jpg", "RGB"), ("c.jpg", "CMYK"), ("d.webp", "RGB"), ("e.tif", "CMYK")):
        image.convert(mode).save(tmp_path / name, exif=tags)
    image.convert("L").convert("P").save(tmp_path / "f.bmp")
    store, _ = ImageFolder(path=tmp_path, size=16, channels=channels).load_arrays()
    for row, file in enumerate(list_pictures(tmp_path).files):
        with Image.open(file) as opened:
            pixels = np.array(ImageOps.exif_transpose(opened).convert("RGB"))
        np.testing.assert_array_equal(store[row], prepare(pixels[None], 16, channels)[0])
