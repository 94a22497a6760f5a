"""Where metrics find the weights of their networks: a named file, else torch's cache. Nothing is downloaded here."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from workbench.core.config import NOT_IDENTITY, Config, UserError
from workbench.core.places import at_home
from workbench.metrics.perceptual import Absent


@dataclass(frozen=True)
class Weights:
    """Weights that a metric needs.

    Attributes:
        field: the field of `MetricWeights` that names their file.
        content: what the file must hold.
        cached: the file's name in torch's cache.
        source: where to get it.
        sha256: the first hex digits of the file's SHA-256 where only one file will do; "" for any.
    """

    field: str
    content: str
    cached: str
    source: str
    sha256: str = ""

    @property
    def variable(self) -> str:
        """The environment variable that names the file."""
        return f"WORKBENCH_{self.field.upper()}"


VGG16 = Weights(
    "vgg16",
    "the state dict of torchvision's VGG-16, or of its .features",
    "vgg16-397923af.pth",
    "https://download.pytorch.org/models/vgg16-397923af.pth (528 MB)",
)
INCEPTION = Weights(
    "inception",
    "torch-fidelity's Inception-v3",
    "weights-inception-2015-12-05-6726825d.pth",
    "https://github.com/toshas/torch-fidelity/releases (weights-inception-2015-12-05-6726825d.pth, 91 MB)",
    sha256="6726825d",
)
NIQE_MODEL = Weights(
    "niqe",
    "deepinv's NIQE model (mu and cov), or BasicSR's niqe_pris_params.npz",
    "niqe_weights.pt",
    "https://huggingface.co/deepinv/demo (niqe_weights.pt, 12 kB)",
)


def _file_of(weights: Weights) -> str | None:
    return Field(
        None,
        description=f"file with {weights.content}; without it ${weights.variable}, then torch's cache",
        json_schema_extra=NOT_IDENTITY,
    )


class MetricWeights(Config):
    """Files with the weights of metrics. A metric without its weights is absent; none is downloaded."""

    vgg16: str | None = _file_of(VGG16)
    inception: str | None = _file_of(INCEPTION)
    niqe: str | None = _file_of(NIQE_MODEL)

    def find(self, weights: Weights, metric: str) -> Path | Absent:
        """The file with these weights, or why `metric` is absent.

        Raises:
            UserError: for a named file that does not exist, or a file with another SHA-256 than its own name, or the
                metric, demands.
        """
        named = getattr(self, weights.field) or os.environ.get(weights.variable)
        path = at_home(named) if named else _torch_cache() / weights.cached
        if not path.is_file():
            if named:
                raise UserError(f"the weights of {metric}: no such file: {path}; give {weights.content}")
            return Absent(
                f"{metric} is absent: no weights in torch's cache, and they are not downloaded by themselves; get "
                f"{weights.source}, and name the file by --metric_weights.{weights.field}=FILE or {weights.variable}"
            )
        stated = weights.sha256 or _digest_in(path.name)
        if stated and not hashlib.sha256(path.read_bytes()).hexdigest().startswith(stated):
            raise UserError(f"{path} is not {weights.content}: its SHA-256 does not begin with {stated}; replace it")
        return path


def _torch_cache() -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _digest_in(name: str) -> str:
    """The digits at the end of names as torchvision gives them, vgg16-397923af.pth; "" for other names."""
    digits = Path(name).stem.rpartition("-")[2]
    return digits if len(digits) == 8 and set(digits) <= set("0123456789abcdef") and "-" in name else ""
