"""Names for readers of everything in reports, figures, tables and the terminal, in one place.

`QUANTITIES` are the columns of a study's results: label, unit and number of meaningful decimals. `LABELS` are the names
of kinds (degradations, encoders, autoencoders, solvers, start rules).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame

    from workbench.experiments.results import StudyResults


@dataclass(frozen=True)
class Quantity:
    """How a column is displayed: `scale` converts to `unit`; `better` is +1 if more is better, -1 if less is."""

    label: str
    unit: str = ""
    decimals: int = 2
    scale: float = 1.0
    better: int = 0

    @property
    def title(self) -> str:
        """The label with its unit, as a table heading."""
        return f"{self.label}, {self.unit}" if self.unit else self.label


QUANTITIES: dict[str, Quantity] = {
    "psnr": Quantity("PSNR", "dB", 2, better=1),
    "ssim": Quantity("SSIM (reflected borders)", "", 3, better=1),
    "ssim_valid": Quantity("SSIM", "", 3, better=1),
    "lpips": Quantity("LPIPS", "", 3, better=-1),
    "dists": Quantity("DISTS", "", 3, better=-1),
    "spectral_angle": Quantity("Spectral angle", "°", 2, better=-1),
    "si_sdr": Quantity("SI-SDR", "dB", 2, better=1),
    "si_sdr_degraded": Quantity("SI-SDR of the measurement", "dB", 2, better=1),
    "log_spectral_distance": Quantity("Log-spectral distance", "dB", 2, better=-1),
    "niqe": Quantity("NIQE", "", 2, better=-1),
    "fid": Quantity("FID", "", 1, better=-1),
    "fid_64": Quantity("FID (64 features)", "", 3, better=-1),
    "fid_192": Quantity("FID (192 features)", "", 3, better=-1),
    "fid_768": Quantity("FID (768 features)", "", 3, better=-1),
    "kid": Quantity("KID x 1000", "", 2, scale=1e3, better=-1),
    "psnr_degraded": Quantity("PSNR of the degraded image", "dB", 2, better=1),
    "psnr_decoded": Quantity("PSNR without diffusion", "dB", 2, better=1),
    "psnr_ceiling": Quantity("PSNR of the autoencoder alone", "dB", 2, better=1),
    "residual_ratio": Quantity("Residual / noise", "", 2),
    "error_kurtosis": Quantity("Kurtosis of the latent error", "", 2),
    "error_neighbours": Quantity("Correlation of neighbouring errors", "", 2),
    "error_estimate": Quantity("Correlation of error and estimate", "", 2),
    "nfe": Quantity("NFE", "", 1, better=-1),
    "decoder_evals": Quantity("Decoder evaluations", "", 1, better=-1),
    "encoder_evals": Quantity("Encoder evaluations", "", 1, better=-1),
    "flops": Quantity("Compute", "GFLOP", 2, scale=1e-9, better=-1),
    "seconds": Quantity("Time", "ms", 1, scale=1e3, better=-1),
}

LABELS: dict[str, str] = {
    "gaussian_blur": "Gaussian blur",
    "gaussian_noise": "Gaussian noise",
    "haze": "haze",
    "clipping": "clipping",
    "quantisation": "quantisation",
    "poisson": "photon noise",
    "audio_clipping": "clipped sound",
    "audio_noise": "noise in sound",
    "bandwidth": "bandwidth",
    "packet_loss": "packet loss",
    "phase_retrieval": "phase retrieval",
    "mri": "MRI",
    "ct": "CT",
    "jpeg": "JPEG",
    "motion_blur_crf": "motion blur + CRF",
    "random_inpainting": "random inpainting",
    "super_resolution": "super-resolution",
    "mixture": "universal",  # the name of a severity encoder trained on a mixture of degradations
    "kl": "KL",
    "patch": "patches",
    "pca": "PCA",
    "tiny": "tiny",
    "vq": "VQ",
    "vqgan": "VQ-GAN",
    "decode_only": "decoded only",
    "gml_dps": "GML-DPS",
    "ldps": "LDPS",
    "ldps_few": "LDPS in few steps",
    "mmps": "MMPS",
    "no_guidance": "no guidance",
    "psld": "PSLD",
    "resample": "ReSample",
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "mahalanobis": "Mahalanobis",
    "non_blind": "non-blind",
    "oracle_gaussian": "closed form",
    "oracle_variance": "true variance",
    "snr_match": "SNR matching",
    "cifar10": "CIFAR-10",
    "tiny_imagenet": "Tiny ImageNet",
    "imagenette": "Imagenette",
    "eurosat": "EuroSAT",
    "chest_mr": "chest MR",
    "spoken_digits": "spoken digits",
    "fashion_mnist": "Fashion-MNIST",
}
"""Kind -> name for readers; for other kinds, underscores become spaces."""


def with_one_ssim(frame: "DataFrame") -> "DataFrame":
    """The rows with the one SSIM by which all of them can be compared.

    `ssim_valid`, computed on windows within the image, if every row with an SSIM has it. Older rows, such as those of
    shipped references, only have `ssim`, with reflected borders; then that one is used for all.
    """
    if "ssim_valid" not in frame:
        return frame
    everywhere = "ssim" not in frame or bool((frame["ssim_valid"].notna() | frame["ssim"].isna()).all())
    return frame.drop(columns=["ssim" if everywhere else "ssim_valid"], errors="ignore")


def readable(label: str) -> str:
    """A config's label for readers: "all but motion_blur_crf" becomes "all but motion blur + CRF".

    Kinds within a longer label are replaced one by one. Readable labels are left unchanged.
    """
    return re.sub(r"\w+", lambda word: LABELS.get(word[0], word[0]), label).replace("_", " ")


def described_images(results: "StudyResults") -> str:
    """Which images the rows are of: "Tiny ImageNet, 64 x 64, colour, test split"; "" where cells differ in it."""
    cell = results.provenance.get("cell", {})
    data = cell.get("data") if isinstance(cell, Mapping) else None
    if not isinstance(data, Mapping) or any(axis == "data" or axis.startswith("data.") for axis in results.axes):
        return ""
    size, channels = data.get("size"), data.get("channels")
    height, width = size if isinstance(size, list | tuple) else (size, size)
    facts = [readable(str(data.get("kind"))).rpartition(":")[2]]
    facts += [f"{height} x {width}"] if size else []
    facts += [{1: "greyscale", 3: "colour"}.get(channels, f"{channels} channels")] if channels else []
    facts += [f"{cell['split']} split"] if "split" in cell else []
    return ", ".join(facts)


def capital(text: str) -> str:
    """Text at the start of a line: its first letter is a capital, and acronyms stay as they are."""
    return text[:1].upper() + text[1:]
