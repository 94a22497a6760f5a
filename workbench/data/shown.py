"""An image of any number of channels as a picture: what pages, sheets and W&B draw."""

import numpy as np
from numpy.typing import NDArray

PICTURE_CHANNELS = (1, 3)
"""Of grey and colour pictures, which is all that picture files hold."""


def shown(image: NDArray[np.floating]) -> NDArray[np.floating]:
    """An (H, W, C) image on [0, 1] as (H, W, 1) grey or (H, W, 3) colour.

    Of 2 channels the magnitude, since they are the real and imaginary part of a complex image; of any other number but
    1 and 3 the mean.
    """
    num_channels = image.shape[2]
    if num_channels in PICTURE_CHANNELS:
        return image
    if num_channels == 2:
        return np.hypot(image[..., :1], image[..., 1:])
    return image.mean(2, keepdims=True)
