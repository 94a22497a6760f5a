"""Showing an image of any number of channels as greyscale or colour, for reports, contact sheets and W&B."""

import numpy as np
from numpy.typing import NDArray

PICTURE_CHANNELS = (1, 3)
"""Numbers of channels of greyscale and colour images, the only ones that image files have."""


def shown(image: NDArray[np.floating]) -> NDArray[np.floating]:
    """Convert an (H, W, C) image on [0, 1] to (H, W, 1) greyscale or (H, W, 3) colour.

    2 channels are shown by their magnitude, because they are the real and imaginary parts of a complex image; any other
    number of channels except 1 and 3 is shown by the mean.
    """
    num_channels = image.shape[2]
    if num_channels in PICTURE_CHANNELS:
        return image
    if num_channels == 2:
        return np.hypot(image[..., :1], image[..., 1:])
    return image.mean(2, keepdims=True)
