"""The similarity of a restored image and the clean one, by pixels and by windows. One number per image."""

from workbench.core.tensors import Images, Scalars

SSIM_WINDOW = 11
"""Width of a window of the structural similarity, in pixels."""


def psnr(x_hat: Images, x: Images) -> Scalars:
    """Peak signal-to-noise ratio in decibels, (B,), for a peak of 1; infinite where the images are equal.

    `x_hat` is clamped to [0, 1] first, as a viewer or an 8-bit file would do.

    Raises:
        ValueError: if the shapes differ.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    _require_same_shape(x_hat, x)
    return peak_signal_noise_ratio(x_hat.clamp(0, 1), x, data_range=1.0, reduction="none", dim=(1, 2, 3))


def spectral_angle(x_hat: Images, x: Images) -> Scalars:
    """Mean angle between the spectra of corresponding pixels in degrees, (B,), for images of at least two channels.

    Yuhas, Goetz and Boardman, JPL Airborne Geoscience Workshop 1992. It does not depend on brightness. Pixels that are
    black in one of the images have no angle, and are left out; an image of such pixels alone has NaN. `x_hat` is
    clamped to [0, 1] first.

    Raises:
        ValueError: if the shapes differ.
    """
    from torchmetrics.functional.image import spectral_angle_mapper

    _require_same_shape(x_hat, x)
    return spectral_angle_mapper(x_hat.clamp(0, 1), x, reduction=None).flatten(1).nanmean(1).rad2deg()


def ssim(x_hat: Images, x: Images) -> Scalars:
    """Structural similarity with reflected borders, (B,), at most 1: the mean over the windows of all pixels.

    Windows are Gaussian, of std 1.5 and 11 pixels wide (Wang et al. 2004). At the border, the image is reflected, as in
    torchmetrics; Wang et al. and scikit-image exclude these windows, like `ssim_valid`. The border matters for small
    images: for the same 32 px images, 0.832 was measured with it and 0.795 without.

    `x_hat` is clamped to [0, 1] first. Images need at least 6 pixels per side.

    Raises:
        ValueError: if the shapes differ.
    """
    return _similarity(x_hat, x)[0]


def ssim_valid(x_hat: Images, x: Images) -> Scalars:
    """Structural similarity of the windows that lie within the image, (B,), at most 1 (Wang et al. 2004).

    Like scikit-image's `structural_similarity` with Gaussian weights, sigma=1.5 and use_sample_covariance=False.

    `x_hat` is clamped to [0, 1] first.

    Raises:
        ValueError: if the shapes differ, or an image is smaller than a window (`SSIM_WINDOW` pixels per side).
    """
    if not _has_windows_within(x):
        raise ValueError(f"no window of {SSIM_WINDOW} pixels per side fits into images of {tuple(x.shape[-2:])}")
    return _mean_within(_similarity(x_hat, x)[1])


def ssim_columns(x_hat: Images, x: Images) -> dict[str, Scalars]:
    """`ssim` and, if a window fits into the images, `ssim_valid`, by name."""
    mean, windows = _similarity(x_hat, x)
    return {"ssim": mean} | ({"ssim_valid": _mean_within(windows)} if _has_windows_within(x) else {})


def _has_windows_within(x: Images) -> bool:
    return min(x.shape[-2:]) >= SSIM_WINDOW


def _mean_within(windows: Images) -> Scalars:
    """The mean over windows within the image."""
    border = SSIM_WINDOW // 2
    return windows[..., border:-border, border:-border].flatten(1).mean(1)


def _similarity(x_hat: Images, x: Images) -> tuple[Scalars, Images]:
    """The mean over all windows, and the similarity in the window around each pixel, with reflected borders."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    _require_same_shape(x_hat, x)
    found = structural_similarity_index_measure(
        x_hat.clamp(0, 1), x, data_range=1.0, reduction="none", return_full_image=True
    )
    assert isinstance(found, tuple)  # one tensor only without the full image
    mean, windows = found
    return mean.reshape(x.shape[0]), windows.reshape(x.shape)


def _require_same_shape(x_hat: Images, x: Images) -> None:
    if x_hat.shape != x.shape:
        raise ValueError(f"the two batches must have the same shape, got {tuple(x_hat.shape)} and {tuple(x.shape)}")
