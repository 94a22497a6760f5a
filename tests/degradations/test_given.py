"""A user's own parameters and measurements: converted with a line where they have one reading, else refused."""

import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from every_degradation import EVERY
from given_y import given
from PIL import Image
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.degradations import (
    JPEG,
    AtSeverity,
    Compose,
    DeepinvPhysics,
    Degradation,
    GaussianBlur,
    GaussianNoise,
    Haze,
    Mixture,
    MotionBlurCRF,
    Poisson,
    RandomInpainting,
    SuperResolution,
)
from workbench.degradations.given import ImagesError

NUM_IMAGES, SHAPE = 12, (1, 16, 20)
SEVERITY, IDS = torch.linspace(0, 1, NUM_IMAGES), 7 * torch.arange(NUM_IMAGES) + 1

every = pytest.mark.parametrize("degradation", EVERY, ids=lambda degradation: degradation.kind)


def own(degradation: Degradation, shape: tuple[int, int, int] = SHAPE) -> dict[str, Tensor]:
    """Parameters as the operator itself draws them."""
    made = degradation.parameters(SEVERITY, IDS, 3, shape)
    return {name: value for name, value in made.items() if name not in degradation.derived}


def measured(degradation: Degradation, channels: int = 1) -> Measurement:
    x = torch.rand(NUM_IMAGES, channels, *SHAPE[1:], generator=torch.Generator().manual_seed(0))
    return degradation.measure(x, SEVERITY, IDS, 3)


def in_8_bits(y: Tensor) -> Tensor:
    return (y.clamp(0, 1) * 255).round() / 255


@every
@pytest.mark.parametrize("channels", [1, 3])
def test_what_the_operator_draws_itself_passes_unchanged(degradation: Degradation, channels: int) -> None:
    shape = (channels, *SHAPE[1:])
    drawn = own(degradation, shape)
    taken, lines = degradation.given_parameters(drawn, shape)
    assert lines == []
    assert taken.keys() - set(degradation.derived) == drawn.keys()
    for name, value in drawn.items():
        assert taken[name].dtype == value.dtype
        assert torch.equal(taken[name], value), name


@every
def test_parameters_may_come_in_double_precision(degradation: Degradation) -> None:
    drawn = own(degradation)
    taken, lines = degradation.given_parameters({name: value.double() for name, value in drawn.items()}, SHAPE)
    assert lines == []
    assert all(torch.equal(taken[name], value) and taken[name].dtype == value.dtype for name, value in drawn.items())


@every
def test_missing_spare_and_unequal_parameters_are_named(degradation: Degradation) -> None:
    drawn = own(degradation)
    taken, (line,) = degradation.given_parameters({**drawn, "weights": torch.zeros(NUM_IMAGES)}, SHAPE)
    assert taken.keys() - set(degradation.derived) == drawn.keys()
    assert line.startswith("weights ignored: ")
    for name in drawn:
        with pytest.raises(UserError, match=name.rpartition(".")[2]):
            degradation.given_parameters({key: value for key, value in drawn.items() if key != name}, SHAPE)
        if len(drawn) > 1:
            with pytest.raises(UserError, match=f"different numbers of images: .*{name} for {NUM_IMAGES - 1}"):
                degradation.given_parameters({**drawn, name: drawn[name][1:]}, SHAPE)


@every
def test_no_parameter_may_be_of_another_shape_or_not_finite(degradation: Degradation) -> None:
    """Also whoever adds an operator and forgets to say what its parameters may be is found here."""
    drawn = own(degradation)
    for name, value in drawn.items():
        leaf = name.rpartition(".")[2]
        shapeless = [value[..., None], torch.cat([value, value], -1) if value.ndim > 1 else value[:, None]]
        for other in [*shapeless, value.to(torch.complex64)]:
            with pytest.raises(UserError, match=leaf) as refusal:
                degradation.given_parameters({**drawn, name: other}, SHAPE)
            assert "\n" not in str(refusal.value)
        image = 3 if leaf == name else whose(degradation, name, drawn)
        broken = value.double()
        broken[image] = torch.nan
        with pytest.raises(ImagesError, match=rf"^image {image} \(counted from 0\): .*{leaf}.* not finite"):
            degradation.given_parameters({**drawn, name: broken}, SHAPE)


def whose(degradation: Degradation, name: str, drawn: Mapping[str, Tensor]) -> int:
    """An image that the parameter of a part or a member matters to."""
    if not isinstance(degradation, Mixture):
        return 3
    kinds = [member.kind for member in degradation.members]
    return drawn["member"].tolist().index([str(kind) for kind in kinds].index(name.partition(".")[0]))


READ = {
    "bool": (RandomInpainting(), "mask", lambda mask: mask.bool(), None),
    "uint8": (RandomInpainting(), "mask", lambda mask: mask.to(torch.uint8), None),
    "of each channel": (RandomInpainting(), "mask", lambda mask: mask.expand(-1, 3, -1, -1), None),
    "0 and 255": (RandomInpainting(), "mask", lambda mask: (255 * mask).to(torch.uint8), "0 and 255 read as 0 and 1"),
    "16 bits": (RandomInpainting(), "mask", lambda mask: 65535.0 * mask, "0 and 65535 read as 0 and 1"),
    "kernel of 8 bits": (
        GaussianBlur(),
        "filter",
        lambda k: (255 * k / k.amax()).to(torch.uint8),
        "divided by its sum",
    ),
    "kernel with a peak of 1": (
        MotionBlurCRF(),
        "filter",
        lambda kernel: kernel / kernel.amax((2, 3), keepdim=True),
        "divided by its sum",
    ),
    "small kernel": (GaussianBlur(), "filter", lambda kernel: torch.full((NUM_IMAGES, 1, 3, 5), 1 / 15), None),
    # deepinv would warn of it
    "kernel of one pixel": (MotionBlurCRF(), "filter", lambda kernel: torch.ones(NUM_IMAGES, 1, 1, 1), None),
    "uint8 quality": (JPEG(), "quality", lambda quality: quality.to(torch.uint8), None),
}


@pytest.mark.parametrize("case", READ)
def test_what_has_one_reading_is_converted(case: str) -> None:
    operator, name, change, line = READ[case]
    shape = (3, *SHAPE[1:])
    drawn = own(operator, shape)
    taken, lines = operator.given_parameters({**drawn, name: change(drawn[name])}, shape)
    assert len(lines) == (line is not None)
    if line is not None:
        assert lines[0].startswith(f"{name} of {operator.kind}: ")
        assert line in lines[0]
    if name == "filter":
        torch.testing.assert_close(taken[name].sum((2, 3)), torch.ones(NUM_IMAGES, 1))
    else:
        assert torch.equal(taken[name], drawn[name].expand_as(taken[name]))
    assert taken[name].dtype == drawn[name].dtype
    assert operator.A(torch.rand(NUM_IMAGES, *shape), taken).isfinite().all()


Change = Callable[[Tensor], Tensor]


def with_image_2(change: Change) -> Change:
    def changed(value: Tensor) -> Tensor:
        value = value.clone()
        value[2] = change(value[2])
        return value

    return changed


composed = Compose(parts=(GaussianBlur(), RandomInpainting()))
at_level = AtSeverity(member=RandomInpainting(), severity=0.5)
seeded = DeepinvPhysics(factory="deepinv_factories:masked")

WRONG: dict[str, tuple[Degradation, str, Change, str]] = {
    "soft mask": (RandomInpainting(), "mask", lambda mask: 0.3 + 0.7 * mask, "has 0.3, expected 1 where a pixel"),
    "faint mask": (RandomInpainting(), "mask", lambda mask: 0.3 * mask, "has 0.3, expected 1 where a pixel"),
    "negative mask": (RandomInpainting(), "mask", lambda mask: -mask, "has -1, expected 1 where a pixel"),
    "labels": (
        RandomInpainting(),
        "mask",
        with_image_2(lambda mask: 2 * mask),
        "has 1, expected 2, the highest value in all masks, where",
    ),
    "nothing kept": (RandomInpainting(), "mask", with_image_2(torch.zeros_like), "keeps no pixel"),
    "another size": (RandomInpainting(), "mask", lambda mask: mask.mT, "expected images x 1 x 16 x 20"),
    "flat mask": (RandomInpainting(), "mask", lambda mask: mask[:, 0], "expected images x 1 x 16 x 20"),
    "even kernel": (GaussianBlur(), "filter", lambda k: k[..., 1:, 1:], "is 18 x 18, but a kernel has odd sides"),
    "even rows": (GaussianBlur(), "filter", lambda k: k[..., 1:, :], "pad it by a row of zeros so that its centre"),
    "negative kernel": (GaussianBlur(), "filter", lambda kernel: kernel - 0.01, "has negative values"),
    "empty kernel": (MotionBlurCRF(), "filter", with_image_2(torch.zeros_like), "is zero, but a kernel must sum to 1"),
    "colour kernel": (MotionBlurCRF(), "filter", lambda k: k.expand(-1, 3, -1, -1), "expected images x 1 x any x any"),
    "no exposure": (MotionBlurCRF(), "gain", lambda gain: 0 * gain, "has 0, expected values from 0.01 to 100"),
    "fraction for a quality": (
        JPEG(),
        "quality",
        lambda quality: quality / 100,
        "expected whole numbers from 1 to 100",
    ),
    "quality 0": (JPEG(), "quality", lambda quality: 0 * quality, "expected whole numbers from 1 to 100"),
    "airlight of 8 bits": (Haze(), "airlight", lambda airlight: 255 * airlight, "from 0 to 1 (on [0, 1] images)"),
    "negative depth": (Haze(), "depth", lambda depth: -depth, "expected values from 0"),
    "negative thickness": (Haze(), "thickness", lambda value: value - 1, "expected values from 0"),
    "opaque": (Haze(), "thickness", lambda value: value + 1000, "nothing of the image is left"),
    "size 0": (SuperResolution(), "size", lambda size: 0 * size, "expected whole numbers from 1 to 20"),
    "size beyond": (SuperResolution(), "size", lambda size: size + 4, "expected whole numbers from 1 to 20"),
    "size beyond the height": (SuperResolution(), "size", lambda size: size.flip(1), "larger than the images, 16 x 20"),
    "sizes of others": (SuperResolution(), "size", lambda size: size.flip(0), "rows of sum 1 up to size"),
    "summing rows": (SuperResolution(), "rows", lambda rows: 1.5 * rows, "rows of sum 1 up to size"),
    "member": (Mixture(), "member", lambda member: member + 1, "from 0 to 5 (0 gaussian_blur, 1 random_inpainting,"),
    "half a member": (Mixture(), "member", lambda member: member / 2, "expected whole numbers from 0 to 5"),
    "a member's": (Mixture(), "random_inpainting.mask", lambda mask: 0.3 * mask, "random_inpainting.*: mask of"),
    "severity": (composed, "severity", lambda severity: 2 * severity, "expected values from 0 to 1"),
    "a part's kernel": (composed, "0.gaussian_blur.filter", lambda kernel: -kernel, "0.gaussian_blur.*: filter of"),
    "a part's mask": (composed, "1.random_inpainting.mask", lambda mask: 0.3 * mask, "1.random_inpainting.*: mask of"),
    "at a level": (at_level, "mask", lambda mask: 0.3 * mask, "mask of random_inpainting has 0.3"),
    "level": (seeded, "level", lambda level: level + 1, "expected values from 0 to 1 (the severity)"),
    "seed": (seeded, "seed", lambda seed: -seed - 1, "expected whole numbers from 0"),
    "images' shape": (
        seeded,
        "image_shape",
        lambda shape: shape.flip(1),
        "differs from that of the images, (1, 16, 20)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_has_no_reading_is_refused(case: str) -> None:
    operator, name, change, message = WRONG[case]
    drawn = own(operator)
    with pytest.raises(UserError) as refusal:
        operator.given_parameters({**drawn, name: change(drawn[name])}, SHAPE)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_parts_and_members_convert_theirs() -> None:
    drawn = own(composed)
    name = "1.random_inpainting.mask"
    taken, lines = composed.given_parameters({**drawn, name: 255 * drawn[name]}, SHAPE)
    assert lines == ["1.random_inpainting.*: mask of random_inpainting: 0 and 255 read as 0 and 1"]
    assert torch.equal(taken[name], drawn[name])
    mixture, name = Mixture(), "random_inpainting.mask"
    drawn = own(mixture)
    # what is given for the images of other members does not matter
    others = drawn["member"] != 1
    mask = (255 * drawn[name]).masked_fill(others[:, None, None, None], torch.nan)
    taken, lines = mixture.given_parameters({**drawn, name: mask}, SHAPE)
    assert lines == ["random_inpainting.*: mask of random_inpainting: 0 and 255 read as 0 and 1"]
    assert torch.equal(taken[name], drawn[name])


def test_a_refusal_knows_its_images() -> None:
    mixture = Mixture()
    drawn = own(mixture)
    masked = (drawn["member"] == 1).nonzero()[:, 0].tolist()
    assert masked
    with pytest.raises(ImagesError) as refusal:
        mixture.given_parameters({**drawn, "random_inpainting.mask": 0.3 * drawn["random_inpainting.mask"]}, SHAPE)
    assert refusal.value.images == masked
    again = pickle.loads(pickle.dumps(refusal.value))
    assert (again.images, str(again)) == (masked, str(refusal.value))


# a user's image of photons is not their root
@pytest.mark.parametrize("degradation", [d for d in EVERY if not isinstance(d, Poisson)], ids=lambda d: d.kind)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_measurement_of_the_workbench_passes_also_in_8_bits(degradation: Degradation, channels: int) -> None:
    measurement = measured(degradation, channels)
    for y in (measurement.y, in_8_bits(measurement.y)):
        taken, lines = given(degradation, y, measurement.params)
        assert lines == []
        assert torch.equal(taken, y)


MASKING = [RandomInpainting(), at_level, composed, Mixture(members=(RandomInpainting(),))]
masking = pytest.mark.parametrize("operator", MASKING, ids=lambda operator: operator.kind)


def truth() -> Tensor:
    return 0.2 + 0.6 * torch.rand(NUM_IMAGES, *SHAPE, generator=torch.Generator().manual_seed(0))


@masking
@pytest.mark.parametrize("filling", [1.0, 0.5, 0.01])
def test_one_filling_of_dropped_pixels_becomes_zero(operator: Degradation, filling: float) -> None:
    measurement = measured(operator)
    observed = measurement.observed
    assert observed is not None
    y, lines = given(operator, in_8_bits(measurement.y + filling * (1 - observed)), measurement.params)
    assert torch.equal(y, in_8_bits(measurement.y) * observed)
    num_filled = int((observed == 0).flatten(1).any(1).sum())
    expected = f"throughout where the mask drops, in {num_filled} of {NUM_IMAGES} images: set to 0"
    assert [line.endswith(expected) for line in lines] == [True] * (filling > 2 / 255)


@masking
def test_a_mask_that_contradicts_y_is_refused(operator: Degradation) -> None:
    measurement = measured(operator)
    name = next(name for name in measurement.params if name.endswith("mask"))
    mask = measurement.params[name]
    never, inverted = truth(), {**measurement.params, name: 1 - mask}
    another = {**measurement.params, name: mask.flip(3)}
    with pytest.raises(ImagesError, match=r"^images .*: y is not zero where the mask drops \(in .*multiply it by the"):
        given(operator, never, measurement.params)
    with pytest.raises(ImagesError, match="y is not zero where the mask drops") as refusal:
        given(operator, truth() * mask, another)
    assert "inverted:" not in str(refusal.value)
    strong = slice(NUM_IMAGES // 2, None)  # where the mask drops enough pixels
    taken = {key: value[strong] for key, value in inverted.items()}
    with pytest.raises(ImagesError, match=r"but zero elsewhere, as if inverted: if the mask is inverted, pass 1 - m"):
        given(operator, (truth() * mask)[strong], taken)


def test_counts_are_those_of_the_pixels() -> None:
    mask = torch.ones(2, 1, 4, 4)
    mask[:, :, 0] = 0
    y = mask.clone()
    y[1, 0, 0, :3] = torch.tensor([0.2, 0.6, 0.9])
    with pytest.raises(ImagesError, match=r"^image 1 \(counted from 0\): y is not zero .* \(in 3 of 4 values there\)"):
        given(RandomInpainting(), y, {"mask": mask})


def test_super_resolution_wants_the_small_picture() -> None:
    measurement = measured(SuperResolution())
    assert measurement.view is not None
    with pytest.raises(ImagesError, match=r"y is not zero beyond the low-resolution image .*before upsampling"):
        given(SuperResolution(), measurement.view, measurement.params)
    filled = measurement.y + 1 - SuperResolution().observed(measurement.params)
    y, (line,) = given(SuperResolution(), filled, measurement.params)
    assert "throughout beyond the low-resolution image" in line
    torch.testing.assert_close(y, measurement.y)


@every
def test_y_is_finite_and_on_the_scale_of_unit_images(degradation: Degradation) -> None:
    measurement = measured(degradation)
    broken = measurement.y.clone()
    broken[4, 0, 0, 0] = torch.nan
    with pytest.raises(ImagesError, match=r"^image 4 \(counted from 0\): .*y contains values that are not finite"):
        given(degradation, broken, measurement.params)
    if not isinstance(degradation, DeepinvPhysics):  # whose values may be on any scale
        of_sound, of_images = "divide samples of 16 bits by 32768", "divide it by the value of white"
        with pytest.raises(ImagesError, match=of_sound if degradation.measures_sound else of_images):
            given(degradation, 255 * measurement.y, measurement.params)


def test_a_degradation_without_parameters_takes_none() -> None:
    assert GaussianNoise().given_parameters({}, SHAPE) == ({}, [])


CASES = Path(os.environ.get("WORKBENCH_SHARED", "")) / "cases"


def pictures(folder: Path, order: list[str] | None = None) -> Tensor:
    paths = sorted(folder.glob("*.png")) if order is None else [folder / name for name in order]
    return (
        torch.stack([torch.from_numpy(np.array(Image.open(path).convert("L"), np.float32))[None] for path in paths])
        / 255
    )


def arrays(path: Path) -> Mapping[str, Any]:
    with np.load(path) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.mark.shared
def test_cases_that_went_wrong() -> None:
    def said(operator: Degradation, y: Tensor, path: str) -> list[str]:
        params, lines = operator.given_parameters(arrays(CASES / path), (1, 32, 32))
        return lines + given(operator, y, params)[1]

    masked, blurred = pictures(CASES / "mask255"), pictures(CASES / "kernels" / "in")
    assert said(RandomInpainting(), masked, "mask255/mask_ok.npz") == []
    assert said(RandomInpainting(), masked, "mask255/mask255.npz") == [
        "mask of random_inpainting: 0 and 255 read as 0 and 1"
    ]
    with pytest.raises(ImagesError, match="as if inverted"):
        said(RandomInpainting(), masked, "mask255/mask_inverted.npz")
    numbered = pictures(CASES / "numbered" / "in", [f"{number}.png" for number in range(11)])
    assert said(RandomInpainting(), numbered, "numbered/masks_0_to_10.npz") == []
    with pytest.raises(ImagesError, match=r"^images 2, 3, 4, 5, 6 and 4 more .*y is not zero where the mask drops"):
        said(RandomInpainting(), pictures(CASES / "numbered" / "in"), "numbered/masks_0_to_10.npz")
    assert said(MotionBlurCRF(), blurred, "kernels/ok.npz") == []
    assert "divided by its sum" in said(MotionBlurCRF(), blurred, "kernels/uint8_peak255.npz")[0]
    with pytest.raises(UserError, match="pad it by a row and a column of zeros"):
        said(MotionBlurCRF(), blurred, "kernels/even_20x20.npz")
    candidates = pictures(CASES / "candidate_kernels" / "in")
    assert said(MotionBlurCRF(), candidates, "candidate_kernels/wrong_right.npz") == []
