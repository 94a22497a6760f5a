"""A batch of measurements can be cut, joined and moved without mixing up what belongs to which image."""

from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.core.measurement import Measurement


def measurement(num: int = 5) -> Measurement:
    """Every tensor is made of its image's number, so that a mix-up shows."""
    number = torch.arange(num, dtype=torch.float32)

    def of(*shape: int) -> Tensor:
        return number.reshape(-1, *(1 for _ in shape)).expand(num, *shape).clone()

    return Measurement(
        y=of(1, 4, 4),
        ids=torch.arange(num),
        noise_std=number,
        params={"kernel": of(3, 3), "gain": number},
        observed=(of(1, 4, 4) % 2 == 0).float(),
        severity=number / 10,
        view=of(1, 8, 8),
    )


def tensors(m: Measurement) -> dict[str, Tensor]:
    return m._tensors()


def assert_same(one: Measurement, other: Measurement) -> None:
    assert tensors(one).keys() == tensors(other).keys()
    for name, tensor in tensors(one).items():
        torch.testing.assert_close(tensor, tensors(other)[name], rtol=0, atol=0)


@pytest.mark.parametrize("index", [[3, 0, 3], [], slice(1, 4), torch.tensor([4, 1]), torch.arange(5) > 2])
def test_take_keeps_everything_of_an_image_together(index: Tensor | list[int] | slice) -> None:
    taken = measurement().take(index)
    for name, tensor in tensors(taken).items():
        whole = tensors(measurement())[name]
        expected = whole[torch.tensor(index, dtype=torch.int64)] if isinstance(index, list) else whole[index]
        torch.testing.assert_close(tensor, expected, rtol=0, atol=0)
    assert set(tensors(taken)) == set(tensors(measurement()))
    assert len(taken) == len(taken.ids)


def test_cat_of_parts_is_the_whole() -> None:
    whole = measurement()
    assert_same(Measurement.cat([whole.take([0]), whole.take(slice(1, 4)), whole.take([4])]), whole)


def test_cat_of_what_has_no_optional_parts() -> None:
    bare = Measurement(y=torch.zeros(2, 7), ids=torch.arange(2), noise_std=torch.zeros(2))
    joined = Measurement.cat([bare, bare])
    assert len(joined) == 4
    assert joined.params == {}
    assert joined.observed is None
    assert joined.severity is None
    assert joined.view is None


def test_cat_refuses_nothing_and_parts_of_another_make() -> None:
    whole = measurement()
    bare = Measurement(y=whole.y, ids=whole.ids, noise_std=whole.noise_std)
    with pytest.raises(ValueError, match="no measurements"):
        Measurement.cat([])
    with pytest.raises(ValueError, match=r"different fields.*params\.kernel"):
        Measurement.cat([whole, bare])
    with pytest.raises(ValueError, match="different fields"):
        Measurement.cat([bare, whole])


@pytest.mark.parametrize("name", ["ids", "noise_std", "severity", "observed", "view", "params"])
def test_a_tensor_of_another_number_of_images_is_refused(name: str) -> None:
    whole = measurement()
    own: dict[str, Any] = {"y": whole.y, "ids": whole.ids, "noise_std": whole.noise_std, "severity": whole.severity}
    own |= {"observed": whole.observed, "view": whole.view, "params": whole.params}
    short = {"kernel": whole.params["kernel"][:4]} if name == "params" else own[name][:4]
    with pytest.raises((ValueError, TypeError), match=name):  # TypeError: from --typecheck, which looks first
        Measurement(**(own | {name: short}))


def test_residual_sees_only_what_was_observed() -> None:
    whole = measurement()
    prediction = torch.full_like(whole.y, 0.25)
    residual = whole.residual(prediction)
    assert whole.observed is not None
    seen = whole.observed.bool()
    torch.testing.assert_close(residual[seen], (whole.y - prediction)[seen])
    assert residual[~seen].abs().sum() == 0
    bare = Measurement(y=whole.y, ids=whole.ids, noise_std=whole.noise_std)
    torch.testing.assert_close(bare.residual(prediction), whole.y - prediction)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_num_observed_counts_entries_of_y_though_the_mask_broadcasts(dtype: torch.dtype) -> None:
    mask = torch.zeros(2, 1, 4, 4)
    mask[0, :, :2], mask[1, :, 0, 0] = 1, 1
    m = Measurement(y=torch.zeros(2, 3, 4, 4), ids=torch.arange(2), noise_std=torch.zeros(2), observed=mask.to(dtype))
    assert m.num_observed().tolist() == [24, 3]
    assert m.num_observed().dtype == torch.float32


@pytest.mark.parametrize("num", [2, 0])
def test_num_observed_without_a_mask_is_the_size_of_y(num: int) -> None:
    m = Measurement(y=torch.zeros(num, 3, 5), ids=torch.arange(num), noise_std=torch.zeros(num))
    assert m.num_observed().tolist() == [15.0] * num


def test_encoder_input_is_the_view_or_else_y() -> None:
    whole = measurement()
    assert whole.encoder_input() is whole.view
    bare = Measurement(y=whole.y, ids=whole.ids, noise_std=whole.noise_std)
    assert bare.encoder_input() is bare.y


def test_with_params_adds_and_changes_and_leaves_the_original() -> None:
    whole = measurement()
    changed = whole.with_params(gain=torch.ones(5), phase=torch.zeros(5, 2))
    assert changed.params.keys() == {"kernel", "gain", "phase"}
    assert changed.params["gain"].tolist() == [1.0] * 5
    assert whole.params.keys() == {"kernel", "gain"}
    assert whole.params["gain"].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"params\.phase"):
        whole.with_params(phase=torch.zeros(3))


def test_to_moves_every_tensor() -> None:
    moved = measurement().to("meta")
    assert {tensor.device.type for tensor in tensors(moved).values()} == {"meta"}
    assert tensors(moved).keys() == tensors(measurement()).keys()
