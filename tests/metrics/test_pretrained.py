"""Weights by path: found, refused or absent with the reason, and never downloaded."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from workbench.core.config import UserError
from workbench.metrics import DISTS, FID, KID, NIQE, Absent, Metric, MetricWeights
from workbench.metrics.pretrained import INCEPTION, NIQE_MODEL, VGG16, Weights

PHOTOGRAPH = (3, 192, 192)
EVERY = [(DISTS(), VGG16), (NIQE(), NIQE_MODEL), (FID(), INCEPTION), (KID(), INCEPTION)]


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None of this machine, and no download."""

    def refuse(*args: object, **named: object) -> None:
        pytest.fail("a metric's weights are not downloaded")

    for weights in (VGG16, INCEPTION, NIQE_MODEL):
        monkeypatch.delenv(weights.variable, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)


@pytest.mark.parametrize(("metric", "weights"), EVERY, ids=lambda each: getattr(each, "kind", ""))
def test_absent_without_weights_with_the_option_that_names_them(metric: Metric, weights: Weights) -> None:
    absent = metric.load(MetricWeights(), PHOTOGRAPH)
    assert isinstance(absent, Absent)
    assert absent.reason.startswith(f"{metric.kind.upper()} is absent: no weights")
    assert f"--metric_weights.{weights.field}=FILE or {weights.variable}" in absent.reason


@pytest.mark.parametrize(("metric", "weights"), EVERY, ids=lambda each: getattr(each, "kind", ""))
def test_a_named_file_has_to_exist_and_hold_the_weights(
    metric: Metric, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=f"the weights of {metric.kind.upper()}: no such file"):
        metric.load(MetricWeights(**{weights.field: str(tmp_path / "none.pt")}), PHOTOGRAPH)
    path = tmp_path / "weights.pt"
    path.write_bytes(b"not weights")
    monkeypatch.setenv(weights.variable, str(path))
    with pytest.raises(UserError, match=r"not a readable state dict|its SHA-256 does not begin with 6726825d"):
        metric.load(MetricWeights(), PHOTOGRAPH)


@pytest.mark.parametrize("metric", [metric for metric, _ in EVERY], ids=lambda metric: metric.kind)
def test_images_of_two_channels_have_none(metric: Metric) -> None:
    absent = metric.load(MetricWeights(), (2, 192, 192))
    assert isinstance(absent, Absent)
    assert "these have 2 channels" in absent.reason


def test_the_digest_in_a_name_is_checked(tmp_path: Path) -> None:
    content = b"weights"
    good = tmp_path / f"vgg16-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    bad = tmp_path / "vgg16-00000000.pth"
    for path in (good, bad):
        path.write_bytes(content)
    assert MetricWeights(vgg16=str(good)).find(VGG16, "DISTS") == good
    with pytest.raises(UserError, match="does not begin with 00000000"):
        MetricWeights(vgg16=str(bad)).find(VGG16, "DISTS")
    plain = tmp_path / "features.pth"
    plain.write_bytes(content)
    assert MetricWeights(vgg16=str(plain)).find(VGG16, "DISTS") == plain
    with pytest.raises(UserError, match="does not begin with 12345678"):
        MetricWeights(vgg16=str(plain)).find(replace(VGG16, sha256="12345678"), "DISTS")


def test_paths_are_no_part_of_the_identity() -> None:
    assert MetricWeights(vgg16="somewhere", inception="else", niqe="there").identity == MetricWeights().identity
