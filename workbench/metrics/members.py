"""The built-in metrics."""

from typing import ClassVar, Literal

from torch import Tensor

from workbench.metrics.family import Columns, Comparison, Metric, Need
from workbench.metrics.perceptual import LPIPS_CHANNELS, Absent
from workbench.metrics.reconstruction import psnr, ssim_columns


class PSNR(Metric):
    """Peak signal-to-noise ratio in decibels, also of the measurement's view, of D(z_hat) and of D(E(x))."""

    kind: Literal["psnr"] = "psnr"

    columns: ClassVar[Columns] = {
        "psnr": "higher",
        "psnr_degraded": None,
        "psnr_decoded": "higher",
        "psnr_ceiling": None,
    }
    needs: ClassVar[frozenset[Need]] = frozenset({"x", "z0", "measurement"})

    def __call__(self, found: Comparison) -> dict[str, Tensor]:
        return {
            "psnr": psnr(found.x_hat, found.x),
            "psnr_degraded": psnr(found.measurement.encoder_input(), found.x),
            "psnr_decoded": psnr(found.decoded, found.x),
            "psnr_ceiling": psnr(found.ceiling, found.x),
        }


class SSIM(Metric):
    """Structural similarity with reflected borders and, if a window fits into the image, without."""

    kind: Literal["ssim"] = "ssim"

    columns: ClassVar[Columns] = {"ssim": "higher", "ssim_valid": "higher"}

    def __call__(self, found: Comparison) -> dict[str, Tensor]:
        return ssim_columns(found.x_hat, found.x)


class LPIPS(Metric):
    """The perceptual distance of the cell's `lpips`, for greyscale and colour images; absent without its weights."""

    kind: Literal["lpips"] = "lpips"

    columns: ClassVar[Columns] = {"lpips": "lower"}

    def __call__(self, found: Comparison) -> dict[str, Tensor]:
        if isinstance(found.lpips, Absent) or found.x.shape[1] not in LPIPS_CHANNELS:
            return {}
        return {"lpips": found.lpips(found.x_hat, found.x)}


class Residual(Metric):
    """Root mean square of y - A(x_hat) over the observed entries, in standard deviations of the noise."""

    kind: Literal["residual"] = "residual"

    columns: ClassVar[Columns] = {"residual_ratio": None}  # 1 if only noise remains: lower is not better
    needs: ClassVar[frozenset[Need]] = frozenset({"measurement"})

    def __call__(self, found: Comparison) -> dict[str, Tensor]:
        rms = found.measurement.residual_rms(found.measure(found.x_hat))
        return {"residual_ratio": rms / found.measurement.noise_std}
