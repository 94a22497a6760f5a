"""A user's parameters and measurements: unambiguous ones are converted with a message, others are rejected."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.tensors import Measurements

ROUNDING = 2 / 255 + 1e-6
"""Largest value that 8-bit files may have in place of 0."""
OFF_ONE = 1e-4
"""Tolerance of a sum of 1, and of flags 0 and 1, for rounding."""
MAX_VALUE = 10.0
"""Maximum of |y| on the scale of [0, 1] images; noise of standard deviation 0.5 stays far below."""
ALMOST_ALL = 0.99
NOISE_ALONE = 1.5
"""In standard deviations: values above this on average are more than noise."""
NUM_NAMED = 5

Size = int | tuple[int, ...] | None
"""The expected size of a dimension: one number, one of several, or any."""


class ImagesError(UserError):
    """Some images of a batch have invalid parameters or values.

    Args:
        images: their positions in the batch, from 0.
        reason: what is wrong, and the remedy.
    """

    def __init__(self, images: Sequence[int], reason: str) -> None:
        super().__init__(f"{listed(images)}: {reason}")
        self.images, self.reason = list(images), reason

    def __reduce__(self) -> tuple[Any, ...]:  # pickled between processes
        return type(self), (self.images, self.reason)


class Given:
    """Reads a user's arrays as the parameters of an operator; each method reads one of them.

    Args:
        operator: kind of the operator, for messages.
        arrays: arrays by name, of any dtype, with images along the first axis.
        names: names of the operator's parameters.
        image_shape: (channels, height, width) of the operator's images.

    Raises:
        UserError: for missing arrays or different numbers of images.
    """

    def __init__(
        self, operator: str, arrays: Mapping[str, Tensor], names: Sequence[str], image_shape: tuple[int, int, int]
    ) -> None:
        self.operator, self.arrays, self.image_shape = operator, arrays, image_shape
        self.lines: list[str] = []
        missing = [name for name in names if name not in arrays]
        if missing:
            found = f", found {', '.join(arrays)}" if arrays else ""
            raise UserError(f"{operator} needs {' and '.join(missing)}{found}")
        spare = [name for name in arrays if name not in names]
        if spare:
            takes = f"takes {', '.join(names)}" if names else "has no parameters"
            self.lines.append(f"{', '.join(spare)} ignored: {operator} {takes}")
        numbers = {name: len(arrays[name]) if arrays[name].ndim else 0 for name in names}
        if len(set(numbers.values())) > 1:
            counts = ", ".join(f"{name} for {number}" for name, number in numbers.items())
            raise UserError(f"the parameters of {operator} have different numbers of images: {counts}")
        self.num_images = next(iter(numbers.values()), 0)

    def mask(self, name: str) -> Tensor:
        """1 where a pixel is kept and 0 where it is dropped, with one channel or as many as the images."""
        channels, height, width = self.image_shape
        value = self._array(name, (1, channels), height, width)
        unit = max(1.0, float(value.max())) if value.numel() else 1.0
        kept, dropped = (value - unit).abs() <= OFF_ONE * unit, value.abs() <= OFF_ONE * unit
        one = "1" if unit <= 1 + OFF_ONE else f"{unit:g}, the highest value in all masks,"
        self._refuse_values(
            name, value, ~(kept | dropped), f"{one} where a pixel is kept and 0 where it is dropped: threshold it"
        )
        if unit > 1 + OFF_ONE:
            self.lines.append(f"{name} of {self.operator}: 0 and {unit:g} read as 0 and 1")
        refuse(~_any(kept), f"{name} of {self.operator} keeps no pixel")
        return kept.to(torch.get_default_dtype())

    def kernel(self, name: str) -> Tensor:
        """Non-negative, with odd height and width and sum 1, with one channel or as many as the images."""
        value = self._array(name, (1, self.image_shape[0]), None, None)
        sides = dict(zip(("row", "column"), value.shape[2:], strict=True))
        even = [side for side, number in sides.items() if number % 2 == 0]
        if even:
            raise UserError(
                f"{name} of {self.operator} is {value.shape[2]} x {value.shape[3]}, but a kernel has odd sides: pad it "
                f"by a {' and a '.join(even)} of zeros so that its centre is on a pixel"
            )
        # rounding of a Fourier transform leaves values slightly below 0
        negative = value < -1e-6 * value.abs().amax((1, 2, 3), keepdim=True)
        refuse(_any(negative), f"{name} of {self.operator} has negative values, but a kernel must not")
        total = value.sum((2, 3), keepdim=True)
        refuse(_any(total <= 0), f"{name} of {self.operator} is zero, but a kernel must sum to 1")
        if bool(((total - 1).abs() > OFF_ONE).any()):
            self.lines.append(
                f"{name} of {self.operator}: divided by its sum, {_range(total)}, because it must sum to 1"
            )
            value = value.clamp(min=0) / total
        # deepinv warns about a kernel of one pixel; padded with zeros, it is equivalent
        beside = [int(length == 1) for length in value.shape[2:]]
        value = F.pad(value, (beside[1], beside[1], beside[0], beside[0]))
        return value.to(torch.get_default_dtype())

    def numbers(
        self, name: str, *sizes: Size, low: float, high: float, whole: bool = False, meaning: str = ""
    ) -> Tensor:
        """Values between `low` and `high`.

        Args:
            sizes: sizes of the dimensions after the first (images).
            whole: whether they must be integers.
            meaning: what they mean, for the message.
        """
        value = self._array(name, *sizes)
        bad = (value < low) | (value > high)
        if whole:
            bad |= value != value.round()
        expected = f"{'whole numbers' if whole else 'values'} from {low:g}{'' if high == math.inf else f' to {high:g}'}"
        self._refuse_values(name, value, bad, f"{expected}{f' ({meaning})' if meaning else ''}")
        return value.to(torch.get_default_dtype())

    def part(
        self,
        prefix: str,
        take: Callable[[Mapping[str, Tensor], tuple[int, int, int]], tuple[Mapping[str, Tensor], list[str]]],
        images: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The parameters whose names begin with `prefix`, read by a part of the operator.

        Args:
            take: the part's `given_parameters`.
            images: positions of the part's images; the values of other images are set to 0. None: all.
        """
        arrays = {name.removeprefix(prefix): value for name, value in self.arrays.items() if name.startswith(prefix)}
        if images is not None:
            arrays = {name: value[images] for name, value in arrays.items()}
        with on_behalf_of(f"{prefix}*", images):
            values, lines = take(arrays, self.image_shape)
        self.lines += [f"{prefix}*: {line}" for line in lines]
        if images is not None:
            values = {name: _spread(value, images, self.num_images) for name, value in values.items()}
        return {f"{prefix}{name}": value for name, value in values.items()}

    def taken(self, values: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """The parameters, and the messages about them."""
        return dict(values), self.lines

    def _refuse_values(self, name: str, value: Tensor, bad: Tensor, expected: str) -> None:
        """Reject images with bad values, if there are any."""
        refuse(_any(bad), f"{name} of {self.operator} has {_values(value[bad])}, expected {expected}")

    def _array(self, name: str, *sizes: Size) -> Tensor:
        """An array of these sizes after the first dimension (images), finite, in double precision."""
        value = self.arrays[name]
        found = tuple(value.shape[1:])
        fits = len(found) == len(sizes) and all(map(_fits, found, sizes))
        if value.ndim == 0 or not fits:
            wanted = " x ".join(["images", *(_wanted(size) for size in sizes)])
            raise UserError(f"{name} of {self.operator} has shape {tuple(value.shape)}, expected {wanted}")
        if value.is_complex():
            raise UserError(f"{name} of {self.operator} is complex, expected real values")
        value = value.double()
        refuse(_any(~value.isfinite()), f"{name} of {self.operator} contains values that are not finite")
        return value


@contextmanager
def on_behalf_of(part: str, images: Tensor | None = None) -> Iterator[None]:
    """Add the name of a part of an operator to its errors.

    Args:
        images: positions in the batch of the part's images; None: all of them.
    """
    try:
        yield
    except ImagesError as error:
        positions = error.images if images is None else [int(images[i]) for i in error.images]
        raise ImagesError(positions, f"{part}: {error.reason}") from None
    except UserError as error:
        raise UserError(f"{part}: {error}") from None


def check_values(y: Measurements, scale: bool = True) -> None:
    """Reject a y that is not finite or (with `scale`) not on the scale of [0, 1] images.

    Raises:
        ImagesError: with the images concerned.
    """
    refuse(
        _any(~y.isfinite()),
        "y contains values that are not finite: set what was not measured to 0, and say so in the parameters",
    )
    peak = y.abs().flatten(1).amax(1)
    if scale:
        refuse(
            peak > MAX_VALUE,
            f"y has values up to {float(peak.max()):g} and must be on the scale of [0, 1] images: divide it by the "
            "value of white, 255 if it comes from 8 bits",
        )


def zero_where_unobserved(
    y: Measurements, observed: Tensor, where: str, remedy: str, noise_std: Tensor | None = None, what: str = "y"
) -> tuple[Measurements, list[str]]:
    """y with zeros where it was not observed, and a message if there were other values.

    Rounding to 8 bits, and one constant per image (and channel) such as a white or grey filling, are unambiguous.

    Args:
        observed: 1 where y was measured and 0 elsewhere, broadcastable to y.
        where, remedy: the meaning of 0, and the remedy if y has other values there.
        noise_std: standard deviation of noise that is accepted there, (images,); None: no noise is.
        what: name of y in messages.

    Raises:
        ImagesError: for other values there, with their counts.
    """
    seen = (observed != 0).expand_as(y)
    off = ~seen & (y.abs() > ROUNDING)
    if noise_std is not None:
        mean_square = (y * ~seen).flatten(1).square().sum(1) / (~seen).flatten(1).sum(1).clamp(min=1)
        off = off & (mean_square.sqrt() > NOISE_ALONE * noise_std).reshape(-1, *[1] * (y.ndim - 1))
    filled: list[float] = []
    counts: dict[int, str] = {}
    swapped = []
    for i in _any(off).nonzero()[:, 0].tolist():
        kept, elsewhere = y[i][seen[i]], y[i][~seen[i]]
        is_swapped = bool(kept.numel()) and bool((kept.abs() <= ROUNDING).double().mean() >= ALMOST_ALL)
        is_filled = all(_is_constant(channel[~flag]) for channel, flag in zip(y[i], seen[i], strict=True))
        if is_filled and not is_swapped:
            filled.append(float(elsewhere.mean()))
        else:
            counts[i] = f"{int(off[i].sum())} of {len(elsewhere)}"
            swapped.append(is_swapped)
    if counts:
        numbers = ", ".join(list(counts.values())[:NUM_NAMED]) + (", ..." if len(counts) > NUM_NAMED else "")
        inverted = ", but zero elsewhere, as if inverted" if all(swapped) else ""
        raise ImagesError(list(counts), f"{what} is not zero {where} (in {numbers} values there){inverted}: {remedy}")
    lines = []
    if filled:
        lines.append(
            f"{what} is not zero but {_range(torch.tensor(filled))} throughout {where}, in {len(filled)} of {len(y)} "
            "images: set to 0"
        )
    return y.where(seen, 0.0), lines


def listed(images: Iterable[int]) -> str:
    """Positions of images in words: `image 3`, or `images 0, 2, 5 and 7 more`."""
    images = list(images)
    named = ", ".join(map(str, images[:NUM_NAMED]))
    more = f" and {len(images) - NUM_NAMED} more" if len(images) > NUM_NAMED else ""
    return f"image{'s' if len(images) > 1 else ''} {named}{more} (counted from 0)"


def refuse(bad: Tensor, reason: str) -> None:
    """Reject the bad images, (images,), if there are any."""
    if bool(bad.any()):
        raise ImagesError(bad.nonzero()[:, 0].tolist(), reason)


def _spread(value: Tensor, images: Tensor, num_images: int) -> Tensor:
    """Values of these images at their positions, 0 for the others."""
    spread = value.new_zeros(num_images, *value.shape[1:])
    spread[images] = value
    return spread


def _any(flags: Tensor) -> Tensor:
    """Per image."""
    return flags.flatten(1).any(1) if flags.ndim > 1 else flags


def _is_constant(values: Tensor) -> bool:
    return not values.numel() or float(values.max() - values.min()) <= 2 * ROUNDING


def _fits(found: int, size: Size) -> bool:
    return size is None or found in (size if isinstance(size, tuple) else (size,))


def _wanted(size: Size) -> str:
    match size:
        case None:
            return "any"
        case tuple():
            return " or ".join(map(str, dict.fromkeys(size)))
        case _:
            return str(size)


def _values(value: Tensor) -> str:
    """A few of the values."""
    different = value.unique().tolist()
    named = ", ".join(f"{number:.3g}" for number in different[:3])
    return f"{named}{' ...' if len(different) > 3 else ''}"


def _range(value: Tensor) -> str:
    low, high = f"{float(value.min()):.3g}", f"{float(value.max()):.3g}"
    return low if low == high else f"{low} to {high}"
