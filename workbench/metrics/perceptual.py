"""LPIPS, a perceptual distance from the features of a classifier (Zhang et al., arXiv 1801.03924, version 0.1).

The `lpips` package ships its linear weights but loads the classifier through torchvision. Here, the classifier is
loaded from a file, torch's cache or a download. If it is not available, the metric is absent, with a reason.
"""

import hashlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.request import urlopen

import torch
from pydantic import Field
from torch import Tensor, nn

from workbench.core.config import NOT_IDENTITY, Config, UserError
from workbench.core.places import at_home
from workbench.core.tensors import Images, Scalars
from workbench.weights.diffusers_folder import read_state_dict

BACKBONE_VARIABLE = "WORKBENCH_LPIPS_BACKBONE"
DOWNLOAD_TIMEOUT_SECONDS = 5.0

LPIPS_CHANNELS = (1, 3)
"""Numbers of image channels that the classifier supports; greyscale is repeated."""

Features = dict[str, Tensor]


class LPIPSConfig(Config):
    """The network whose features LPIPS compares, and the location of its weights."""

    net: Literal["squeeze", "alex", "vgg"] = Field(
        "squeeze", description="squeeze (SqueezeNet 1.1), alex (AlexNet) or vgg (VGG-16); their values differ"
    )
    backbone: str | None = Field(
        None,
        description="state dict of the torchvision network or of its .features; "
        f"without it ${BACKBONE_VARIABLE}, torch's cache, then a download",
        json_schema_extra=NOT_IDENTITY,
    )


@dataclass(frozen=True)
class Absent:
    """A metric that cannot be computed, with the reason."""

    reason: str


class LPIPSMetric:
    """LPIPS with trained weights; lower is more similar, 0 for equal images."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network.eval().requires_grad_(False)

    def to(self, device: torch.device | str) -> "LPIPSMetric":
        """Move the network to `device`, in place."""
        self._network.to(device)
        return self

    @torch.no_grad()
    def __call__(self, x_hat: Images, x: Images) -> Scalars:
        """The distance of each pair, (B,), of images with 1 or 3 channels on [0, 1]; `x_hat` is clamped.

        Raises:
            ValueError: if the shapes differ.
            UserError: for another number of channels.
        """
        if x_hat.shape != x.shape:
            raise ValueError(f"the two batches must have the same shape, got {tuple(x_hat.shape)} and {tuple(x.shape)}")
        return self.distance(x_hat.clamp(0, 1), x)

    def distance(self, x_hat: Images, x: Images) -> Scalars:
        """The same with gradients, for training; `x_hat` is not clamped, which would stop them outside [0, 1]."""
        distance: Tensor = self._network(_to_network_range(x_hat), _to_network_range(x))
        return distance.reshape(x.shape[0])


def load_lpips(config: LPIPSConfig) -> LPIPSMetric | Absent:
    """Load LPIPS, or return the reason why it is absent. Weights are never random.

    The backbone is read from `config.backbone`, else from the file in $WORKBENCH_LPIPS_BACKBONE, else from torch's
    cache, else from torchvision's site (5 s timeout; the file is stored in torch's cache).

    Raises:
        UserError: for a backbone file that does not exist, is damaged or has the weights of another network.
    """
    try:
        import lpips
    except ImportError as error:
        return Absent(f"the lpips package cannot be imported ({error}); pip install lpips")
    path = _backbone_file(config)
    if isinstance(path, Absent):
        return path
    # the constructor draws random weights, which are replaced below; do not advance the global generator
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        network = lpips.LPIPS(net=config.net, pretrained=False, pnet_rand=True, verbose=False)
    linear = read_state_dict(Path(lpips.__file__).parent / "weights" / "v0.1" / f"{config.net}.pth")
    features = read_features(path)
    network.load_state_dict(_whole_state(network, linear, features, config, path), strict=True)
    return LPIPSMetric(network)


def _to_network_range(x: Tensor) -> Tensor:
    if x.shape[1] not in LPIPS_CHANNELS:
        raise UserError(f"LPIPS compares greyscale or colour images, but these have {x.shape[1]} channels")
    return 2 * x.expand(-1, 3, -1, -1) - 1


def _backbone_file(config: LPIPSConfig) -> Path | Absent:
    named = config.backbone or os.environ.get(BACKBONE_VARIABLE)
    if named:
        path = at_home(named)
        if not path.is_file():
            source = "lpips backbone" if config.backbone else f"${BACKBONE_VARIABLE}"
            raise UserError(f"{source}: no such file: {path}; give a state dict of torchvision's {config.net} network")
        return path
    url = _torchvision_url(config)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if cached.is_file():
        if not _is_named_by(cached, cached.read_bytes()):
            raise UserError(
                f"{cached} is damaged, its SHA-256 is not that in its name: delete it, to download it again"
            )
        return cached
    try:
        _download(url, cached)
    except (OSError, ValueError) as error:
        return Absent(
            f"LPIPS ({config.net}) is absent: no weights in torch's cache, and the download failed ({error}); "
            f"set {BACKBONE_VARIABLE} to a file that holds them"
        )
    return cached


def _torchvision_url(config: LPIPSConfig) -> str:
    from torchvision import models

    weights = {
        "squeeze": models.SqueezeNet1_1_Weights.IMAGENET1K_V1,
        "alex": models.AlexNet_Weights.IMAGENET1K_V1,
        "vgg": models.VGG16_Weights.IMAGENET1K_V1,
    }
    return str(weights[config.net].url)


def _download(url: str, target: Path) -> None:
    """Download `url` to `target`, whose name ends with the first 8 hex digits of the content's SHA-256."""
    with urlopen(url, timeout=DOWNLOAD_TIMEOUT_SECONDS) as response:
        content = response.read()
    if not _is_named_by(target, content):
        raise ValueError(f"the download from {url} has another hash than in its name")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}.part")
    partial.write_bytes(content)
    partial.replace(target)


def _is_named_by(path: Path, content: bytes) -> bool:
    """Whether the name ends with the first hex digits of the content's SHA-256, like torchvision's names."""
    return hashlib.sha256(content).hexdigest().startswith(path.stem.rsplit("-", 1)[1])


def read_features(path: Path) -> Features:
    """The state of the network's `.features`, from a file with only these or with the whole network."""
    state = read_state_dict(path)
    if any(key.startswith("features.") for key in state):
        return {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
    return state


def _whole_state(
    network: nn.Module, linear: dict[str, Any], features: Features, config: LPIPSConfig, path: Path
) -> dict[str, Any]:
    """All tensors of the lpips module; rejects a backbone with the keys or shapes of another network."""
    own = network.state_dict()
    slices = {key: key.split(".", 2)[2] for key in own if key.startswith("net.")}
    missing, foreign = set(slices.values()) - set(features), set(features) - set(slices.values())
    if missing or foreign:
        detail = f"{len(missing)} tensors missing, {len(foreign)} that it does not have"
        raise UserError(f"{path} does not hold the weights of torchvision's {config.net} network: {detail}")
    for key, name in slices.items():
        if own[key].shape != features[name].shape:
            shapes = f"{tuple(features[name].shape)} instead of {tuple(own[key].shape)}"
            raise UserError(f"{path} does not hold the weights of the {config.net} network: {name} is {shapes}")
    fixed = {key: value for key, value in own.items() if key.startswith("scaling_layer.")}
    # the package registers each linear layer twice, as lin0 and as lins.0
    again = {f"lins.{key.removeprefix('lin')}": value for key, value in linear.items()}
    return fixed | linear | again | {key: features[name] for key, name in slices.items()}
