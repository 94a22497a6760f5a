"""What the columns of a study's results mean: label, unit and how many decimals are worth reading."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.metrics import Estimate

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Quantity:
    """How a column is shown: `scale` brings values into `unit`; `better` is +1 where more is better, -1 where less."""

    label: str
    unit: str = ""
    decimals: int = 2
    scale: float = 1.0
    better: int = 0

    @property
    def title(self) -> str:
        """The label with its unit, as a table's heading."""
        return f"{self.label}, {self.unit}" if self.unit else self.label


QUANTITIES: dict[str, Quantity] = {
    "psnr": Quantity("PSNR", "dB", 2, better=1),
    "ssim": Quantity("SSIM (reflected borders)", "", 3, better=1),
    "ssim_valid": Quantity("SSIM", "", 3, better=1),
    "lpips": Quantity("LPIPS", "", 3, better=-1),
    "psnr_degraded": Quantity("PSNR of the degraded image", "dB", 2, better=1),
    "psnr_decoded": Quantity("PSNR without diffusion", "dB", 2, better=1),
    "psnr_ceiling": Quantity("PSNR of the autoencoder alone", "dB", 2, better=1),
    "residual_ratio": Quantity("Residual / noise", "", 2),
    "nfe": Quantity("NFE", "", 1, better=-1),
    "decoder_evals": Quantity("Decoder evaluations", "", 1, better=-1),
    "encoder_evals": Quantity("Encoder evaluations", "", 1, better=-1),
    "flops": Quantity("Compute", "GFLOP", 2, scale=1e-9, better=-1),
    "seconds": Quantity("Time", "ms", 1, scale=1e3, better=-1),
}


def with_one_ssim(frame: "DataFrame") -> "DataFrame":
    """The rows with the one SSIM by which all of them can be compared.

    `ssim_valid`, that of windows within the image, where every row with an SSIM has it. Rows that were made before it
    was measured, such as those of shipped references, have `ssim` alone, with reflected borders: then that one of all.
    """
    if "ssim_valid" not in frame:
        return frame
    everywhere = "ssim" not in frame or bool((frame["ssim_valid"].notna() | frame["ssim"].isna()).all())
    return frame.drop(columns=["ssim" if everywhere else "ssim_valid"], errors="ignore")


def readable(label: str) -> str:
    """A config's label in words: "gaussian_blur" becomes "gaussian blur"."""
    return label.replace("_", " ")


def number(value: float, decimals: int) -> str:
    """`value` for readers: a true minus sign, no negative zero, "n/a" for NaN."""
    if math.isnan(value):
        return "n/a"
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def spoken(estimate: Estimate, decimals: int, unit: str = "") -> str:
    """An estimate in a sentence: "2.50 [2.31, 2.70]", the unit, if given, behind the mean."""
    interval = f" [{number(estimate.low, decimals)}, {number(estimate.high, decimals)}]"
    return number(estimate.mean, decimals) + unit + ("" if math.isnan(estimate.low) else interval)


def percent(part: Estimate, decimals: int = 0) -> str:
    """A part of 1 in a sentence: "91 % [89, 92]"."""
    return spoken(part.scaled(100), decimals, " %")


def ranged(values: Sequence[float], decimals: int) -> str:
    """The least and the largest of figures: "0.98 to 1.03"; one, where they read alike."""
    low, high = number(min(values), decimals), number(max(values), decimals)
    return low if low == high else f"{low} to {high}"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def image_count(estimates: Iterable[Estimate]) -> str:
    """How many images estimates are over: "n = 128 images", "n = 96 to 128 images"; empty where there are none."""
    counts = {estimate.num_images for estimate in estimates if estimate.num_images}
    if not counts:
        return ""
    low, high = min(counts), max(counts)
    unit = "image" if high == 1 else "images"
    return f"n = {low} {unit}" if low == high else f"n = {low} to {high} {unit}"
