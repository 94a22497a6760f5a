"""DISTS: torchmetrics' own value of the same images, from a given VGG-16.

VGG-16 has random weights here, which tests the wiring; no value means anything.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchmetrics.functional.image import deep_image_structure_and_texture_similarity
from torchmetrics.functional.image import dists as library
from torchvision.models import vgg16

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.metrics import Absent, MetricWeights
from workbench.metrics.dists import dists, load_dists

NUM = 3


@pytest.fixture(scope="module")
def features() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [vgg16_layer(layer) for layer in _meta_features()]
    return nn.Sequential(*layers)


def _meta_features() -> nn.Sequential:
    with torch.device("meta"):
        return vgg16(weights=None).features


def vgg16_layer(layer: nn.Module) -> nn.Module:
    """A layer of VGG-16; only those of its features are needed, a ninth of its weights."""
    if isinstance(layer, nn.Conv2d):
        return nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1)
    return layer


@pytest.fixture(scope="module")
def path(features: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vgg.pth"
    torch.save({f"features.{name}": value for name, value in features.state_dict().items()}, path)
    return path


@pytest.fixture
def network(path: Path) -> nn.Module:
    network = load_dists(MetricWeights(vgg16=str(path)), 3)
    assert not isinstance(network, Absent)
    return network


def images(channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.arange(NUM)
    x = randomness.uniform(ids, ("x",), (channels, 40, 32))
    return (x + 0.2 * randomness.normal(ids, ("noise",), x.shape[1:])).clamp(0, 1), x


def test_as_the_library_computes_it(
    network: nn.Module, features: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    # in place of its download
    monkeypatch.setattr(library, "vgg16", lambda weights: SimpleNamespace(features=features))
    x_hat, x = images()
    expected = deep_image_structure_and_texture_similarity(x_hat, x)
    torch.testing.assert_close(dists(network, x_hat, x), expected.detach(), rtol=0, atol=1e-6)


def test_equal_images_one_image_grey_and_values_out_of_range(network: nn.Module) -> None:
    x_hat, x = images()
    assert torch.allclose(dists(network, x, x), torch.zeros(NUM), atol=1e-5)
    together = dists(network, x_hat, x)
    assert bool((together > 1e-3).all())
    torch.testing.assert_close(dists(network, x_hat[:1], x[:1]), together[:1])
    torch.testing.assert_close(dists(network, 3 * x_hat, x), dists(network, (3 * x_hat).clamp(0, 1), x))
    grey_hat, grey = images(1)
    coloured = dists(network, grey_hat.repeat(1, 3, 1, 1), grey.repeat(1, 3, 1, 1))
    torch.testing.assert_close(dists(network, grey_hat, grey), coloured)


def test_another_networks_weights_are_refused(tmp_path: Path, features: nn.Sequential) -> None:
    path, state = tmp_path / "wrong.pth", features.state_dict()
    torch.save({name: value for name, value in state.items() if name != "0.bias"}, path)
    with pytest.raises(UserError, match=r"does not hold the state dict of torchvision's VGG-16.*0\.bias"):
        load_dists(MetricWeights(vgg16=str(path)), 3)
    torch.save(state | {"0.bias": torch.zeros(3)}, path)
    with pytest.raises(UserError, match=r"does not hold the state dict.*0\.bias"):
        load_dists(MetricWeights(vgg16=str(path)), 3)


def test_loading_leaves_the_global_generator_alone(path: Path) -> None:
    before = torch.random.get_rng_state()
    load_dists(MetricWeights(vgg16=str(path)), 1)
    assert torch.equal(torch.random.get_rng_state(), before)
