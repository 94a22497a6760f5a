import numpy as np
import pytest
import torch

from workbench.core.config import UserError
from workbench.data import Npy
from workbench.data.contact_sheet import contact_sheet


@pytest.fixture(params=[1, 3])
def source(request, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 16, 16, request.param), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    return Npy(path=tmp_path / "images.npy", size=16, channels=request.param)


def test_each_column_is_degraded_at_its_severity(source, tmp_path):
    calls = []

    def degrade(x, severity, ids):
        assert torch.equal(ids, source.split("test").ids[:3])
        assert torch.equal(x, source.split("test").batch([0, 1, 2]))
        calls.append(severity.tolist())
        return x * 3 - 1

    sheet = contact_sheet(source, degrade, tmp_path / "new" / "sheet.png", num_images=3)
    assert calls == [[level] * 3 for level in (0, 0.25, 0.5, 0.75, 1)]
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_the_picture_shows_the_degraded_images(source, tmp_path):
    from PIL import Image

    def mean_brightness(value: float) -> float:
        sheet = contact_sheet(source, lambda x, *_: torch.full_like(x, value), tmp_path / "sheet.png", num_images=2)
        return np.asarray(Image.open(sheet).convert("L")).mean()

    assert mean_brightness(1) > mean_brightness(0.5) + 20 > mean_brightness(0) + 40


def test_a_small_split_is_shown_whole(source, tmp_path):
    shown = []
    contact_sheet(source, lambda x, *_: shown.append(len(x)) or x, tmp_path / "sheet.png", num_images=100)
    assert set(shown) == {len(source.split("test"))}


def test_bad_requests(source, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        contact_sheet(source, lambda x, *_: x, tmp_path / "file" / "sheet.png", num_images=1)
