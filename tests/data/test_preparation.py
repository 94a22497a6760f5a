import numpy as np
import pytest

from workbench.data.preparation import prepare

DTYPES = (np.uint8, np.float32)


def scaled(images: np.ndarray, dtype) -> np.ndarray:
    """Images on [0, 1] as the dtype holds them."""
    return (images * 255).round().astype(np.uint8) if dtype == np.uint8 else images.astype(np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
def test_resizing_does_not_alias(dtype):
    """A checkerboard of single pixels becomes grey: at an odd ratio, picking pixels would give a checkerboard again."""
    checkerboard = np.indices((72, 72)).sum(0) % 2
    resized = prepare(scaled(checkerboard[None, ..., None], dtype), 8, 1)
    assert resized.dtype == dtype
    full = 255 if dtype == np.uint8 else 1
    np.testing.assert_allclose(resized / full, 0.5, atol=0.05)


@pytest.mark.parametrize("dtype", DTYPES)
def test_resizing_keeps_the_range_and_flat_images(dtype):
    edge = np.zeros((1, 40, 40, 3))
    edge[:, :, 17:] = 1
    resized = prepare(scaled(edge, dtype), 16, 3)
    assert resized.min() == 0
    assert resized.max() == (255 if dtype == np.uint8 else 1)
    flat = scaled(np.full((1, 40, 40, 3), 0.2), dtype)
    np.testing.assert_allclose(prepare(flat, 16, 3), np.broadcast_to(flat[0, 0, 0], (1, 16, 16, 3)), rtol=1e-5)


@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
def test_crop_takes_the_centre(shape):
    images = np.zeros((1, *shape, 1), np.uint8)
    row, column = shape[0] // 2, shape[1] // 2
    images[0, row - 6 : row + 6, column - 6 : column + 6] = 200
    assert (prepare(images, 12, 1) == 200).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_grey_to_colour_and_back_is_exact(dtype):
    grey = scaled(np.random.default_rng(0).random((3, 8, 8, 1)), dtype)
    colour = prepare(grey, 8, 3)
    assert colour.shape == (3, 8, 8, 3)
    assert (colour == grey).all()
    np.testing.assert_allclose(prepare(colour, 8, 1), grey, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_grey_weighs_green_most(dtype):
    colours = scaled(np.eye(3).reshape(3, 1, 1, 3).repeat(8, 1).repeat(8, 2), dtype)
    red, green, blue = prepare(colours, 8, 1)[:, 0, 0, 0]
    assert green > red > blue > 0


def test_what_fits_is_not_copied():
    images = np.zeros((2, 8, 8, 3), np.uint8)
    assert prepare(images, 8, 3) is images
