"""NIQE, naturalness of one image without a reference (Mittal et al. 2012), by deepinv."""

import functools
import io
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from workbench.core.config import UserError
from workbench.core.foreign import FOREIGN
from workbench.core.tensors import Images, Scalars
from workbench.metrics.perceptual import Absent
from workbench.metrics.pretrained import NIQE_MODEL, MetricWeights
from workbench.weights.diffusers_folder import read_state_dict

CHANNELS = (1, 3)
PATCH = 96
"""Width of a patch, in pixels; a covariance needs two."""
NUM_FEATURES = 36


def load_niqe(weights: MetricWeights, image_shape: tuple[int, int, int]) -> nn.Module | Absent:
    """NIQE with its model of natural images, or why it is absent.

    Args:
        image_shape: (channel, height, width); with fewer than two patches of 96 px there is no NIQE.

    Raises:
        UserError: for a file that is missing, damaged or no such model.
    """
    channels, *size = image_shape
    if channels not in CHANNELS:
        return Absent(f"NIQE rates greyscale or colour images, but these have {channels} channels")
    if (size[0] // PATCH) * (size[1] // PATCH) < 2:
        return Absent(f"NIQE needs two patches of {PATCH} px, more than images of {size[0]} x {size[1]} hold")
    path = weights.find(NIQE_MODEL, "NIQE")
    return path if isinstance(path, Absent) else _loaded(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _loaded(path: Path, _changed: int) -> nn.Module:
    from deepinv.loss.metric import NIQE

    mu, cov = _model(path)
    if mu.shape != (NUM_FEATURES,) or cov.shape != (NUM_FEATURES, NUM_FEATURES):
        raise UserError(f"{path} does not hold {NIQE_MODEL.content}: mu is {tuple(mu.shape)}, cov {tuple(cov.shape)}")
    held = io.BytesIO()
    torch.save({"mu": mu, "cov": cov}, held)
    held.seek(0)
    # as in the authors' code: 8-bit grey levels
    return NIQE(weights_path=held, round_tensor=True, dtype=torch.float64).eval()


def _model(path: Path) -> tuple[Tensor, Tensor]:
    """Mean (36,) and covariance (36, 36) of the features of natural images."""
    import numpy as np

    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return torch.from_numpy(arrays["mu_pris_param"]).reshape(-1), torch.from_numpy(arrays["cov_pris_param"])
        state = read_state_dict(path)
        return state["mu"].reshape(-1), state["cov"]
    except UserError:
        raise
    except FOREIGN as error:
        raise UserError(f"{path} does not hold {NIQE_MODEL.content} ({error})") from None


@torch.no_grad()
def niqe(model: nn.Module, x_hat: Images) -> Scalars:
    """NIQE of each image, (B,), lower is more natural; NaN without two patches of any texture. `x_hat` is clamped.

    Images with few patches of 96 px get higher values: for four photographs of CBSD68, 3.0 to 4.2 from 321 x 321 px,
    4.7 to 16.9 from their corners of 192 x 96 px. Only compare images of one size.
    """
    return torch.tensor([_of_one(model, image) for image in x_hat], dtype=x_hat.dtype, device=x_hat.device)


def _of_one(model: nn.Module, image: Tensor) -> float:
    """One by one, on the CPU in double precision: a value does not depend on the batch."""
    try:
        return float(model(255 * image.clamp(0, 1).cpu().double()[None]))
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        # patches without variance have no features, and two are needed
        return math.nan
