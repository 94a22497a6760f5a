"""The built-in metrics."""

import math
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from workbench.metrics.dists import dists, load_dists
from workbench.metrics.family import Columns, Comparison, Metric, Need, SetMetric
from workbench.metrics.inception import FEATURES, FEWEST_FOR_KID, fewest_for_fid, fid, kid, load_inception
from workbench.metrics.niqe import load_niqe, niqe
from workbench.metrics.perceptual import LPIPS_CHANNELS, Absent
from workbench.metrics.pretrained import MetricWeights
from workbench.metrics.reconstruction import psnr, spectral_angle, ssim_columns
from workbench.metrics.statistics import Estimate


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
            "psnr_degraded": psnr(found.view, found.x),
            "psnr_decoded": psnr(found.decoded, found.x),
            "psnr_ceiling": psnr(found.ceiling, found.x),
        }


class SSIM(Metric):
    """Structural similarity with reflected borders and, if a window fits into the image, without."""

    kind: Literal["ssim"] = "ssim"

    columns: ClassVar[Columns] = {"ssim": "higher", "ssim_valid": "higher"}

    def __call__(self, found: Comparison) -> dict[str, Tensor]:
        return ssim_columns(found.x_hat, found.x)


class SpectralAngle(Metric):
    """Mean angle between the spectra of pixels in degrees, for images of several channels, such as remote sensing."""

    kind: Literal["spectral_angle"] = "spectral_angle"

    columns: ClassVar[Columns] = {"spectral_angle": "lower"}

    def __call__(self, found: Comparison) -> dict[str, Tensor]:
        return {} if found.x.shape[1] == 1 else {"spectral_angle": spectral_angle(found.x_hat, found.x)}


class LPIPS(Metric):
    """The perceptual distance of the cell's `lpips`, for greyscale and colour images; absent without its weights."""

    kind: Literal["lpips"] = "lpips"

    columns: ClassVar[Columns] = {"lpips": "lower"}

    def __call__(self, found: Comparison) -> dict[str, Tensor]:
        if isinstance(found.lpips, Absent) or found.x.shape[1] not in LPIPS_CHANNELS:
            return {}
        return {"lpips": found.lpips(found.x_hat, found.x)}


class DISTS(Metric):
    """Distance in structure and texture, by VGG-16, for greyscale and colour images; absent without its weights."""

    kind: Literal["dists"] = "dists"

    columns: ClassVar[Columns] = {"dists": "lower"}

    def load(self, weights: MetricWeights, image_shape: tuple[int, int, int]) -> nn.Module | Absent | None:
        return load_dists(weights, image_shape[0])

    def __call__(self, found: Comparison) -> dict[str, Tensor]:
        network = found.networks.get(self.kind)
        return {} if network is None else {"dists": dists(network, found.x_hat, found.x)}


class NIQE(Metric):
    """Naturalness without the clean image, from 192 x 96 px on; absent without its model of natural images."""

    kind: Literal["niqe"] = "niqe"

    columns: ClassVar[Columns] = {"niqe": "lower"}
    needs: ClassVar[frozenset[Need]] = frozenset()

    def load(self, weights: MetricWeights, image_shape: tuple[int, int, int]) -> nn.Module | Absent | None:
        return load_niqe(weights, image_shape)

    def __call__(self, found: Comparison) -> dict[str, Tensor]:
        network = found.networks.get(self.kind)
        return {} if network is None else {"niqe": niqe(network, found.x_hat)}


class FID(SetMetric):
    """Fréchet inception distance of the restored images from the clean ones: one value per cell."""

    kind: Literal["fid"] = "fid"
    num_features: Literal[64, 192, 768, 2048] = Field(
        FEATURES,
        description="features of Inception-v3: FID is that of 2048, and needs more images than features; those of "
        "earlier layers need fewer and are figures of their own",
    )

    @property
    def figure(self) -> str:
        return "fid" if self.num_features == FEATURES else f"fid_{self.num_features}"

    @property
    def fewest(self) -> int:
        return fewest_for_fid(self.num_features)

    def load(self, weights: MetricWeights, image_shape: tuple[int, int, int]) -> nn.Module | Absent | None:
        return load_inception(weights, image_shape[0], "FID", self.num_features)

    def features(self, found: Comparison) -> tuple[Tensor, Tensor] | None:
        network = found.networks.get(self.kind)
        return None if network is None else found.inception(network)

    def of_set(self, clean: Tensor, restored: Tensor) -> Estimate:
        return Estimate(fid(clean, restored), math.nan, math.nan, len(clean))


class KID(SetMetric):
    """Kernel inception distance of the restored images from the clean ones: one value per cell."""

    kind: Literal["kid"] = "kid"

    @property
    def figure(self) -> str:
        return "kid"

    @property
    def fewest(self) -> int:
        return FEWEST_FOR_KID

    def load(self, weights: MetricWeights, image_shape: tuple[int, int, int]) -> nn.Module | Absent | None:
        return load_inception(weights, image_shape[0], "KID")

    def features(self, found: Comparison) -> tuple[Tensor, Tensor] | None:
        network = found.networks.get(self.kind)
        return None if network is None else found.inception(network)

    def of_set(self, clean: Tensor, restored: Tensor) -> Estimate:
        return kid(clean, restored)


class Residual(Metric):
    """Root mean square of y - A(x_hat) over the observed entries, in standard deviations of the noise."""

    kind: Literal["residual"] = "residual"

    columns: ClassVar[Columns] = {"residual_ratio": None}  # 1 if only noise remains: lower is not better
    needs: ClassVar[frozenset[Need]] = frozenset({"measurement"})

    def __call__(self, found: Comparison) -> dict[str, Tensor]:
        rms = found.measurement.residual_rms(found.measure(found.x_hat))
        return {"residual_ratio": rms / found.measurement.noise_std}
