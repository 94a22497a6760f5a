"""NIQE: deepinv's own value of the same images, with a model that deepinv fits to simple ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from deepinv.loss import metric as deepinv
from torch import nn

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.metrics import Absent, MetricWeights
from workbench.metrics.niqe import load_niqe, niqe

SHAPE = (3, 192, 192)


def pictures(num: int, size: int = 192) -> torch.Tensor:
    """Noise whose amplitude falls with the frequency, as in natural images; (num, 3, size, size)."""
    noise = randomness.normal(torch.arange(num), ("picture",), (3, size, size))
    frequency = torch.fft.fftfreq(size).square()
    fall = 1 / (frequency[:, None] + frequency[None] + 1 / size**2).sqrt()
    x = torch.fft.ifft2(torch.fft.fft2(noise) * fall).real
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return (x - low) / (high - low)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("niqe") / "model.pt"
    fitted = deepinv.NIQE(weights_path=None, round_tensor=True)
    fitted.create_weights(list(255 * pictures(12)), save_path=path)
    return path


@pytest.fixture
def model(path: Path) -> nn.Module:
    model = load_niqe(MetricWeights(niqe=str(path)), SHAPE)
    assert not isinstance(model, Absent)
    return model


def test_as_the_library_computes_it(model: nn.Module, path: Path) -> None:
    x = pictures(3)
    expected = deepinv.NIQE(weights_path=path, round_tensor=True, dtype=torch.float64)(255 * x.double())
    torch.testing.assert_close(niqe(model, x), expected.float(), rtol=1e-4, atol=0)
    torch.testing.assert_close(niqe(model, x[1:2]), niqe(model, x)[1:2], rtol=0, atol=0)


def test_noise_is_less_natural(model: nn.Module) -> None:
    x = pictures(3)
    noisy = x + 0.2 * randomness.normal(torch.arange(3), ("noise",), x.shape[1:])
    assert bool((niqe(model, noisy) > 1.5 * niqe(model, x)).all())


def test_without_texture_there_is_none(model: nn.Module) -> None:
    assert bool(niqe(model, torch.full((1, *SHAPE), 0.5)).isnan().all())


def test_small_images_have_none(path: Path) -> None:
    weights = MetricWeights(niqe=str(path))
    for size in ((64, 64), (191, 190), (96, 191)):
        absent = load_niqe(weights, (3, *size))
        assert isinstance(absent, Absent)
        assert "two patches of 96 px" in absent.reason
    assert not isinstance(load_niqe(weights, (3, 96, 192)), Absent)


def test_models_in_the_authors_layout(model: nn.Module, path: Path, tmp_path: Path) -> None:
    state = torch.load(path, weights_only=True)
    other = tmp_path / "niqe_pris_params.npz"
    np.savez(other, mu_pris_param=state["mu"].numpy().reshape(1, -1), cov_pris_param=state["cov"].numpy())
    same = load_niqe(MetricWeights(niqe=str(other)), SHAPE)
    assert not isinstance(same, Absent)
    torch.testing.assert_close(niqe(same, pictures(1)), niqe(model, pictures(1)))


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    for state in ({"mu": torch.zeros(3), "cov": torch.zeros(3, 3)}, {"mean": torch.zeros(36)}):
        torch.save(state, path)
        with pytest.raises(UserError, match="does not hold deepinv's NIQE model"):
            load_niqe(MetricWeights(niqe=str(path)), SHAPE)
    path = tmp_path / "model.npz"
    np.savez(path, mu_pris_param=np.array([object()]), cov_pris_param=np.eye(36))  # would need pickle
    with pytest.raises(UserError, match="does not hold deepinv's NIQE model"):
        load_niqe(MetricWeights(niqe=str(path)), SHAPE)
