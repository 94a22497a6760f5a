import numpy as np
import pytest

from workbench.data.prepared import prepared

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)


def test_made_once_and_mapped(tmp_path):
    path = tmp_path / "kind" / "images.npy"
    assert np.array_equal(prepared(path, lambda: IMAGES), IMAGES)
    found = prepared(path, lambda: pytest.fail("made again"))
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    assert np.array_equal(found, IMAGES)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "no record"])
def test_a_damaged_file_is_made_again(tmp_path, damage):
    path = tmp_path / "images.npy"
    prepared(path, lambda: IMAGES)
    content = path.read_bytes()
    match damage:
        case "flipped":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "truncated":
            path.write_bytes(content[:-10])
        case "no record":
            path.with_suffix(".json").unlink()
    assert np.array_equal(prepared(path, lambda: IMAGES), IMAGES)


def test_nothing_is_left_if_making_fails(tmp_path):
    def fail() -> np.ndarray:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        prepared(tmp_path / "images.npy", fail)
    assert not list(tmp_path.glob("*.npy*"))
