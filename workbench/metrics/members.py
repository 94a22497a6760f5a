"""The built-in metrics."""

import math
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from workbench.core.sound import BANDS, FRAMES
from workbench.metrics.dists import dists, load_dists
from workbench.metrics.family import Columns, Comparison, Metric, Need, SetMetric
from workbench.metrics.inception import FEATURES, FEWEST_FOR_KID, fewest_for_fid, fid, kid, load_inception
from workbench.metrics.niqe import load_niqe, niqe
from workbench.metrics.perceptual import LPIPS_CHANNELS, Absent
from workbench.metrics.pretrained import MetricWeights
from workbench.metrics.reconstruction import psnr, spectral_angle, ssim_columns
from workbench.metrics.sound import log_spectral_distance, si_sdr
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


class SISDR(Metric):
    """Scale-invariant signal-to-distortion ratio in decibels, also of the measurement, for images of sound."""

    kind: Literal["si_sdr"] = "si_sdr"

    columns: ClassVar[Columns] = {"si_sdr": "higher", "si_sdr_degraded": None}
    needs: ClassVar[frozenset[Need]] = frozenset({"x", "measurement"})

    def load(self, weights: MetricWeights, image_shape: tuple[int, int, int]) -> nn.Module | Absent | None:
        return _of_sound(image_shape, "SI-SDR")

    def __call__(self, found: Comparison) -> dict[str, Tensor]:
        if not found.is_sound:
            return {}
        degraded = si_sdr(found.measurement.encoder_input(), found.x)
        return {"si_sdr": si_sdr(found.x_hat, found.x), "si_sdr_degraded": degraded}


class LogSpectralDistance(Metric):
    """Distance of log power spectra in decibels, for images of sound."""

    kind: Literal["log_spectral_distance"] = "log_spectral_distance"

    columns: ClassVar[Columns] = {"log_spectral_distance": "lower"}

    def load(self, weights: MetricWeights, image_shape: tuple[int, int, int]) -> nn.Module | Absent | None:
        return _of_sound(image_shape, "The log-spectral distance")

    def __call__(self, found: Comparison) -> dict[str, Tensor]:
        if not found.is_sound:
            return {}
        return {"log_spectral_distance": log_spectral_distance(found.x_hat, found.x)}


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


class LatentError(Metric):
    """What the error e = z_hat - z0 of the estimate is like, where starts assume white Gaussian noise N(0, s2 I).

    `error_kurtosis` is that of the elements of e / sqrt(s2): 3 if they are Gaussian. `error_neighbours` is the mean
    correlation of elements beside or below each other, and `error_estimate` that of e and z_hat: 0 if e is white, and
    if z_hat is the conditional mean.
    """

    kind: Literal["latent_error"] = "latent_error"

    columns: ClassVar[Columns] = {"error_kurtosis": None, "error_neighbours": None, "error_estimate": None}
    needs: ClassVar[frozenset[Need]] = frozenset({"z0"})

    def __call__(self, found: Comparison) -> dict[str, Tensor]:
        assert found.z0 is not None  # declared
        z_hat = found.z_hat.double()
        e = z_hat - found.z0.double()
        scale = e.square().flatten(1).mean(1).sqrt()
        e = e / scale.clamp(min=1e-30)[:, None, None, None]
        beside = (e[..., 1:] * e[..., :-1]).flatten(1).mean(1)
        below = (e[..., 1:, :] * e[..., :-1, :]).flatten(1).mean(1)
        return {
            "error_kurtosis": e.pow(4).flatten(1).mean(1).float(),
            "error_neighbours": ((beside + below) / 2).float(),
            "error_estimate": _correlation(e.flatten(1), z_hat.flatten(1)).float(),
        }


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Of each row's elements, (batch, n) each -> (batch,)."""
    a, b = (v - v.mean(1, keepdim=True) for v in (a, b))
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt().clamp(min=1e-30)


class Residual(Metric):
    """Root mean square of y - A(x_hat) over the observed entries, in standard deviations of the noise."""

    kind: Literal["residual"] = "residual"

    columns: ClassVar[Columns] = {"residual_ratio": None}  # 1 if only noise remains: lower is not better
    needs: ClassVar[frozenset[Need]] = frozenset({"measurement"})

    def __call__(self, found: Comparison) -> dict[str, Tensor]:
        rms = found.measurement.residual_rms(found.measure(found.x_hat))
        return {"residual_ratio": rms / found.measurement.noise_std}


def _of_sound(image_shape: tuple[int, int, int], name: str) -> Absent | None:
    """Why a metric of sound is absent for images of another size."""
    if image_shape == (1, BANDS, FRAMES):
        return None
    found = " x ".join(map(str, image_shape))
    return Absent(f"{name} compares sound, in images of 1 x {BANDS} x {FRAMES}, but these are {found}")
