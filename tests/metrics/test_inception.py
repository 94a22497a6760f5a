"""FID and KID: torchmetrics' own values of the same images and features.

Inception-v3 has random weights here, which tests the wiring; no value means anything.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.image import KernelInceptionDistance
from torchmetrics.image.fid import NoTrainInceptionV3
from torchmetrics.image.kid import poly_kernel

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.metrics import FID, KID, Absent, MetricWeights, inception
from workbench.metrics.inception import fid, inception_features, kid, load_inception


class Given(nn.Module):
    """In the place of the network where features are given."""

    num_features = 16

    def forward(self, features: Tensor) -> Tensor:
        return features


def sets(num: int, shift: float = 0.0, num_features: int = 16) -> tuple[Tensor, Tensor]:
    ids = torch.arange(num)
    clean = randomness.normal(ids, ("clean",), (num_features,))
    return clean, clean + 0.3 * randomness.normal(ids, ("change",), (num_features,)) + shift


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in torch-fidelity's format."""
    patch = pytest.MonkeyPatch()
    with patch.context() as patched, torch.random.fork_rng(devices=[]):
        patched.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *a, **k: {})
        patched.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        state = FeatureExtractorInceptionV3("random", ["64"]).state_dict()
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(state, path)
    return path


def test_features_are_those_of_the_library(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception, "INCEPTION", replace(inception.INCEPTION, sha256=""))
    before = torch.random.get_rng_state()
    network = load_inception(MetricWeights(inception=str(path)), 3, "FID", 64)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not isinstance(network, Absent)
    library = NoTrainInceptionV3("inception-v3-compat", ["64"], str(path))
    x = 1.4 * randomness.uniform(torch.arange(2), ("x",), (3, 20, 24)) - 0.2
    torch.testing.assert_close(inception_features(network, x), library((255 * x.clamp(0, 1)).byte()))
    grey = x[:, :1]
    torch.testing.assert_close(inception_features(network, grey), inception_features(network, grey.repeat(1, 3, 1, 1)))


def test_weights_of_another_network_or_file_are_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="its SHA-256 does not begin with 6726825d"):
        KID().load(MetricWeights(inception=str(path)), (3, 64, 64))
    monkeypatch.setattr(inception, "INCEPTION", replace(inception.INCEPTION, sha256=""))
    other = tmp_path / "other.pth"
    torch.save({"fc.weight": torch.zeros(2, 2)}, other)
    with pytest.raises(UserError, match="does not hold torch-fidelity's Inception-v3"):
        KID().load(MetricWeights(inception=str(other)), (3, 64, 64))


def test_fid_of_gaussians_with_another_mean() -> None:
    clean, _ = sets(40)
    assert fid(clean, clean) == pytest.approx(0, abs=1e-6)
    assert fid(clean, clean + 0.5) == pytest.approx(16 * 0.25, rel=1e-6)
    assert fid(clean, 2 * clean) > 1


def of_library(clean: Tensor, restored: Tensor) -> float:
    library = KernelInceptionDistance(feature=Given(), subsets=1, subset_size=len(clean))
    library.update(clean, real=True)
    library.update(restored, real=False)
    return float(library.compute()[0])


def test_kid_is_the_librarys_without_pairs_of_an_image_and_its_restoration() -> None:
    clean, restored = sets(120, shift=0.2)
    across = poly_kernel(clean.double(), restored.double())
    all_pairs, own = across.mean(), across.diagonal().mean()
    others = (120 * all_pairs - own) / 119
    found = kid(clean, restored)
    assert found.mean == pytest.approx(of_library(clean, restored) + float(2 * (all_pairs - others)), rel=1e-4)
    assert found.num_images == 120
    assert found.low < found.mean < found.high


def test_kid_of_paired_sets_does_not_depend_on_their_number() -> None:
    """The mean of ten parts is that of the whole; the library's estimator, for independent sets, is not."""
    clean, restored = sets(1000, shift=0.2)
    parts = [slice(k, k + 100) for k in range(0, 1000, 100)]
    ours = np.array([kid(clean[part], restored[part]).mean for part in parts])
    librarys = np.array([of_library(clean[part], restored[part]) for part in parts])
    assert abs(ours.mean() - kid(clean, restored).mean) < 2 * ours.std() / 3
    assert abs(librarys.mean() - of_library(clean, restored)) > 5 * librarys.std() / 3


def test_kids_interval_holds_what_more_images_give() -> None:
    clean, restored = sets(1000, shift=0.2)
    truth = kid(clean, restored).mean
    parts = [kid(clean[k : k + 100], restored[k : k + 100]) for k in range(0, 1000, 100)]
    inside = np.mean([part.low <= truth <= part.high for part in parts])
    assert inside >= 0.7
    assert np.mean([part.high - part.low for part in parts]) < 2 * truth


def test_too_few_images_are_refused() -> None:
    with pytest.raises(UserError, match="FID needs at least 17 images, got 16"):
        fid(*sets(16))
    with pytest.raises(UserError, match="KID needs at least 100 images, got 99"):
        kid(*sets(99))
    assert (FID().fewest, FID(num_features=64).fewest, KID().fewest) == (2049, 65, 100)
    assert (FID().figure, FID(num_features=64).figure) == ("fid", "fid_64")
