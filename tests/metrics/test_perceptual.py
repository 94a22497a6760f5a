import hashlib
import os
from pathlib import Path

import pytest
import torch

from workbench.core.config import UserError
from workbench.metrics import Absent, LPIPSConfig, LPIPSMetric, load_lpips, perceptual


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No weights of this machine, no network."""

    def refuse(url: str, timeout: float) -> None:
        assert timeout <= 5
        raise OSError("no network")

    monkeypatch.delenv("WORKBENCH_LPIPS_BACKBONE", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(perceptual, "urlopen", refuse)


@pytest.fixture(scope="module")
def squeeze_features() -> dict[str, torch.Tensor]:
    from torchvision.models import squeezenet1_1

    return squeezenet1_1(weights=None).features.state_dict()


@pytest.fixture
def features_file(tmp_path: Path, squeeze_features: dict[str, torch.Tensor]) -> Path:
    path = tmp_path / "features.pth"
    torch.save(squeeze_features, path)
    return path


def images(channels: int = 1) -> torch.Tensor:
    return torch.rand(3, channels, 32, 32, generator=torch.Generator().manual_seed(0))


def test_absent_says_why_when_there_are_no_weights() -> None:
    absent = load_lpips(LPIPSConfig())
    assert isinstance(absent, Absent)
    assert "no network" in absent.reason
    assert "WORKBENCH_LPIPS_BACKBONE" in absent.reason


def test_backbone_from_config_or_environment(features_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from_config = load_lpips(LPIPSConfig(backbone=str(features_file)))
    monkeypatch.setenv("WORKBENCH_LPIPS_BACKBONE", str(features_file))
    from_environment = load_lpips(LPIPSConfig())
    assert isinstance(from_config, LPIPSMetric)
    assert isinstance(from_environment, LPIPSMetric)
    x = images()
    assert torch.equal(from_config(x, x.flip(0)), from_environment(x, x.flip(0)))


def test_every_backbone_tensor_is_in_place(features_file: Path, squeeze_features: dict[str, torch.Tensor]) -> None:
    metric = load_lpips(LPIPSConfig(backbone=str(features_file)))
    assert isinstance(metric, LPIPSMetric)
    loaded = {key.split(".", 2)[2]: v for key, v in metric._network.state_dict().items() if key.startswith("net.")}
    assert loaded.keys() == squeeze_features.keys()
    assert all(torch.equal(loaded[key], squeeze_features[key]) for key in loaded)


def test_distance_properties(features_file: Path) -> None:
    metric = load_lpips(LPIPSConfig(backbone=str(features_file)))
    assert isinstance(metric, LPIPSMetric)
    x, grey = images(3), images(1)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    assert metric(x, x).shape == (3,)
    assert torch.allclose(metric(x, x), torch.zeros(3))
    assert (metric(x + 0.5 * noise, x) > 0).all()
    assert torch.equal(metric(x + noise, x), metric((x + noise).clamp(0, 1), x))
    assert torch.allclose(metric(grey, grey.flip(0)), metric(grey.repeat(1, 3, 1, 1), grey.flip(0).repeat(1, 3, 1, 1)))
    # the function's own error, or that of the shape checks where they are on
    with pytest.raises((ValueError, TypeError)):
        metric(x, grey)


def test_loading_leaves_the_global_generator_alone(features_file: Path) -> None:
    before = torch.random.get_rng_state()
    load_lpips(LPIPSConfig(backbone=str(features_file)))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_whole_network_in_torch_cache_is_found_unless_it_is_damaged(
    tmp_path: Path, squeeze_features: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    whole = {f"features.{key}": value for key, value in squeeze_features.items()}
    whole["classifier.1.bias"] = torch.zeros(9)
    saved = tmp_path / "saved.pth"
    torch.save(whole, saved)
    content = bytearray(saved.read_bytes())
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    monkeypatch.setattr(perceptual, "_torchvision_url", lambda _: f"https://example.com/{name}")
    (cache / name).write_bytes(content)
    assert isinstance(load_lpips(LPIPSConfig()), LPIPSMetric)
    content[len(content) // 2] ^= 1
    (cache / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} is damaged.*delete it, to download it again"):
        load_lpips(LPIPSConfig())


def test_bad_backbones_are_refused(tmp_path: Path, squeeze_features: dict[str, torch.Tensor]) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_lpips(LPIPSConfig(backbone=str(tmp_path / "none.pth")))

    path = tmp_path / "wrong.pth"
    torch.save({key: value for key, value in squeeze_features.items() if key != "0.bias"}, path)
    with pytest.raises(UserError, match="1 tensors missing"):
        load_lpips(LPIPSConfig(backbone=str(path)))
    torch.save(squeeze_features | {"99.weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="1 that it does not have"):
        load_lpips(LPIPSConfig(backbone=str(path)))
    torch.save(squeeze_features | {"0.bias": torch.zeros(3)}, path)
    with pytest.raises(UserError, match=r"0\.bias is \(3,\)"):
        load_lpips(LPIPSConfig(backbone=str(path)))
    path.write_bytes(b"not weights")
    with pytest.raises(UserError, match="not a readable state dict"):
        load_lpips(LPIPSConfig(backbone=str(path)))


def test_code_in_a_backbone_is_not_run(tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "malicious.pth"
    torch.save({"0.weight": Malicious()}, path)
    with pytest.raises(UserError, match="not a readable state dict"):
        load_lpips(LPIPSConfig(backbone=str(path)))
    assert not (tmp_path / "ran").exists()


def test_download_checks_the_hash_in_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"weights")
    monkeypatch.setattr(perceptual, "urlopen", lambda *_args, **_named: source.open("rb"))
    good = tmp_path / "cache" / f"net-{hashlib.sha256(b'weights').hexdigest()[:8]}.pth"
    perceptual._download("http://nowhere/net.pth", good)
    assert good.read_bytes() == b"weights"
    bad = tmp_path / "cache" / "net-00000000.pth"
    with pytest.raises(ValueError, match="hash"):
        perceptual._download("http://nowhere/net.pth", bad)
    assert [path.name for path in bad.parent.iterdir()] == [good.name]


def test_backbone_path_is_no_part_of_the_identity() -> None:
    assert LPIPSConfig(backbone="somewhere").identity == LPIPSConfig().identity
    assert LPIPSConfig(net="vgg").identity != LPIPSConfig().identity


@pytest.mark.shared
def test_documented_value() -> None:
    """torchmetrics' docstring of learned_perceptual_image_patch_similarity, squeeze: tensor([0.1024, 0.0938])."""
    folder = Path(os.environ["WORKBENCH_SHARED"]) / "weights"
    metric = load_lpips(LPIPSConfig(backbone=str(folder / "squeezenet1_1_features.pth")))
    assert isinstance(metric, LPIPSMetric)
    generator = torch.Generator().manual_seed(42)
    first = torch.rand(2, 3, 100, 100, generator=generator)
    second = torch.rand(2, 3, 100, 100, generator=generator)
    assert torch.allclose(metric(first, second), torch.tensor([0.1024, 0.0938]), atol=1e-4)
