"""How near a restored image is to the clean one, pixel by pixel and window by window. One number an image."""

from torch import Tensor

from workbench.tensors import Images, Scalars


def psnr(x_hat: Images, x: Images) -> Scalars:
    """Peak signal-to-noise ratio in decibels, (B,), for a peak of 1; infinite where the images are equal.

    `x_hat` is clamped to [0, 1] first, as a viewer or an 8-bit file would do.

    Raises:
        ValueError: when the shapes differ.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    _require_same_shape(x_hat, x)
    return peak_signal_noise_ratio(x_hat.clamp(0, 1), x, data_range=1.0, reduction="none", dim=(1, 2, 3))


def ssim(x_hat: Images, x: Images) -> Scalars:
    """Structural similarity, (B,), at most 1: Gaussian windows of std 1.5 and 11 pixels (Wang et al. 2004).

    `x_hat` is clamped to [0, 1] first. Images need at least 6 pixels a side, because windows reflect at the border.

    Raises:
        ValueError: when the shapes differ.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    _require_same_shape(x_hat, x)
    similarity = structural_similarity_index_measure(x_hat.clamp(0, 1), x, data_range=1.0, reduction="none")
    assert isinstance(similarity, Tensor)  # a tuple only when the contrast term is asked for
    return similarity.reshape(x.shape[0])


def _require_same_shape(x_hat: Images, x: Images) -> None:
    if x_hat.shape != x.shape:
        raise ValueError(f"the two batches must have one shape, got {tuple(x_hat.shape)} and {tuple(x.shape)}")
