"""Restorations of images with known ground truth, as images, figures and a table, for notebooks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.core.tensors import Ids, Images, Scalars
from workbench.degradations import nearest_equivalent
from workbench.diffusion import Chain
from workbench.diffusion.noise_levels import snr
from workbench.metrics import Estimate, mean_interval, psnr
from workbench.reporting.curves import Line, curves
from workbench.reporting.figures import svg
from workbench.reporting.formats import number
from workbench.reporting.page import Section, paragraph, side_by_side
from workbench.reporting.pictures import Card, Picture, Strip, gallery
from workbench.restoration import Restored, Restorer
from workbench.severity.estimate import error_variance
from workbench.severity.start import Matched

if TYPE_CHECKING:
    import pandas as pd

NUM_POINTS = 25
"""Number of points of the curve of SNR over timesteps."""
NUM_COLUMNS = 5
"""Number of images per row."""


@dataclass(frozen=True)
class Restorations:
    """Images at one severity, with their measurements and restorations, in the same order.

    Attributes:
        x: the clean images.
        severity: severity of the degradation.
        measurement: the measurements.
        decoded: D(z_hat), the severity encoder's estimate without diffusion.
        restored: the restored images.
        s2: the true error variance of z_hat.
    """

    x: Images
    severity: float
    measurement: Measurement
    decoded: Images
    restored: Restored
    s2: Scalars

    def frame(self) -> "pd.DataFrame":
        """One row per image: severity; predicted, matched and true error (standard deviations); start, cost, PSNR."""
        import pandas as pd

        columns: dict[str, Tensor] = {
            "image_id": self.measurement.ids,
            "sigma_hat": self.restored.var_hat.sqrt(),
            "start_sigma": self.restored.start_variance.sqrt(),
            "true_sigma": self.s2.sqrt(),
            "start_timestep": self.restored.start_timestep,
            "nfe": self.restored.nfe,
            "psnr_degraded": psnr(self.measurement.encoder_input(), self.x),
            "psnr_decoded": psnr(self.decoded, self.x),
            "psnr": psnr(self.restored.x_hat, self.x),
        }
        frame = pd.DataFrame({name: _widened(values).cpu().numpy() for name, values in columns.items()})
        frame.insert(1, "severity", self.severity)
        return frame


@torch.no_grad()
def restore_known(restorer: Restorer, x: Images, ids: Ids, severity: float, seed: int = 0) -> Restorations:
    """Degrade clean images with the restorer's operator at a severity in [0, 1], and restore them.

    Of images that measure the same, those nearest to the clean ones are shown.

    Args:
        ids: ids of the images; they key masks, kernels and noise, and must be unique.
        seed: also keys these draws.

    Raises:
        UserError: for a severity outside [0, 1].
    """
    device = next(restorer.prior.parameters()).device
    levels = torch.full((len(x),), float(severity))
    measurement = restorer.degradation.measure(x, levels, ids, seed).to(device)
    x = x.to(device)
    restored = restorer.restore_all(measurement, truth=lambda _: restorer.autoencoder.encode(x))
    z0, decoded = restorer.autoencoder.encode(x), restorer.autoencoder.decode(restored.z_hat)
    s2 = error_variance(restored.z_hat, z0)

    def nearest(images: Images) -> Images:
        return nearest_equivalent(restorer.degradation, images, x)

    if measurement.view is not None:
        measurement = replace(measurement, view=nearest(measurement.view))
    restored = replace(restored, x_hat=nearest(restored.x_hat))
    return Restorations(x, severity, measurement, nearest(decoded), restored, s2)


def pictures_section(title: str, pictures: Mapping[str, Images], note: str = "") -> Section:
    """An image's stages by caption, each (1, channel, height, width) on [0, 1], in a row next to title and note."""
    shown = [Picture(_array(image[0]), (caption,)) for caption, image in pictures.items()]
    room = Card((), max(NUM_COLUMNS - len(shown), 0))  # so that images have the same size, however many there are
    return Section("", gallery([Strip(title, [Card(shown, len(shown)), room], note)]))


def start_section(chain: Chain, start: Matched, restored: Restored, image: int = 0) -> Section:
    """How the start of one image follows from the error of its z_hat: where the SNR of a timestep equals that of z_hat.

    Raises:
        UserError: for a start from pure noise, or one that matches no variance.
    """
    variance, timestep = float(restored.start_variance[image]), int(restored.start_timestep[image])
    if not variance > 0 or bool(restored.fell_back[image]):
        raise UserError("this image's start matches no variance, so there is no SNR to draw")
    # the axis is logarithmic, because most starts are at low timesteps; so 0 is drawn at 1
    levels = chain.all_timesteps("this figure")
    timesteps = torch.logspace(0, math.log10(len(levels) - 1), NUM_POINTS).round().long().unique()
    line = [_point(value) for value in (10 * snr(levels[timesteps]).log10()).tolist()]
    # as in `Matched`: whether the error is independent of z0 or of z_hat
    noise_variance = variance if start.channel == "forward" else variance / (1 - variance)
    target = -10 * math.log10(noise_variance) - start.offset_db
    figure = curves(
        {"": {"schedule": Line(timesteps.tolist(), line)}},
        title="The start: as noisy as ẑ",
        x_label="timestep; reverse diffusion goes to the left, towards noise-free images",
        y_label="signal-to-noise ratio, dB",
        log_x=True,
        x_marks={f"start {timestep}": max(timestep, 1)},
        y_marks={f"ẑ {number(target, 1)} dB": target},
    )
    text = paragraph(
        f"The error of ẑ is assumed to have a standard deviation of {number(variance**0.5, 3)} (latents have 1), an "
        f"SNR of {number(target, 1)} dB. Timestep {timestep} is the smallest on the grid that is at least as noisy. "
        f"From there, {int(restored.nfe[image])} evaluations of the prior are left."
    )
    return Section("Where does reverse diffusion start?", text + svg(figure, "SNR over timesteps, and the start"))


def levels_section(runs: Sequence[Restorations], image: int = 0) -> Section:
    """One image at several severities, one strip each: degraded, decoded without diffusion, restored, clean."""
    strips = []
    for run in runs:
        row = run.frame().to_dict("records")[image]
        pictures = [
            Picture(_array(run.measurement.encoder_input()[image]), (f"degraded {number(row['psnr_degraded'], 1)}",)),
            Picture(_array(run.decoded[image]), (f"decoded {number(row['psnr_decoded'], 1)}",)),
            Picture(_array(run.restored.x_hat[image]), (f"restored {number(row['psnr'], 1)}",)),
            Picture(_array(run.x[image]), ("clean",)),
        ]
        corrected = f", corrected to {number(row['start_sigma'], 3)}" if _is_corrected(run) else ""
        note = (
            f"error predicted {number(row['sigma_hat'], 3)}{corrected}, true {number(row['true_sigma'], 3)}; starts at "
            f"{row['start_timestep']:.0f}, {row['nfe']:.0f} NFE"
        )
        strips.append(Strip(f"Severity {run.severity:.2f}", [Card(pictures, len(pictures))], note))
    text = paragraph(
        'Figures under images are PSNR in dB. "Decoded" is D(ẑ), the severity encoder\'s estimate without diffusion; '
        "errors are standard deviations of ẑ − z0, where latents have 1."
    )
    return Section("From measurement to restoration", text + gallery(strips))


def severity_section(runs: Sequence[Restorations]) -> Section:
    """Means over the images of each run, by severity: predicted and true error, start and quality."""
    frames = [run.frame() for run in runs]
    severities = [run.severity for run in runs]

    def line(column: str) -> Line:
        return Line(severities, [mean_interval(frame[column].to_numpy(dtype=float)) for frame in frames])

    corrected = {"corrected": line("start_sigma")} if any(map(_is_corrected, runs)) else {}
    errors = {"predicted": line("sigma_hat"), **corrected, "true": line("true_sigma")}
    quality = {"degraded": "psnr_degraded", "decoded": "psnr_decoded", "restored": "psnr"}
    figures = {
        "Error of ẑ": (errors, "standard deviation (latents have 1)"),
        "Network evaluations": ({"": line("nfe")}, "NFE of one image"),
        "Quality": ({name: line(column) for name, column in quality.items()}, "PSNR, dB"),
    }
    drawn = [
        svg(curves({"": lines}, title=title, x_label="severity", y_label=label), f"{title} over severity")
        for title, (lines, label) in figures.items()
    ]
    return Section("Over severity", side_by_side(drawn))


def _is_corrected(run: Restorations) -> bool:
    """Whether starts are matched to another variance than the severity encoder's."""
    matched = run.restored.start_variance
    return bool(matched.isfinite().all()) and not torch.allclose(matched, run.restored.var_hat, rtol=1e-4)


def _widened(values: Tensor) -> Tensor:
    """Floats in double precision: rounded single-precision values show too many decimals."""
    return values.double() if values.is_floating_point() else values


def _point(value: float) -> Estimate:
    """A number without an interval."""
    return Estimate(value, math.nan, math.nan, 0)


def _array(image: Tensor) -> NDArray[np.floating]:
    """(channel, height, width) as (height, width, channel)."""
    return image.detach().cpu().permute(1, 2, 0).numpy()
