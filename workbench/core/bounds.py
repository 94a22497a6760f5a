"""Types of numbers with the ranges in which they make sense.

The ranges are generous: no sensible value is rejected. Values outside overflow, exhaust the memory or are meaningless,
and are rejected before anything is computed. Bounds are not part of an identity.
"""

from collections.abc import Iterator
from typing import Annotated, Any, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import Field
from pydantic.fields import FieldInfo

MAX_SEED = 2**63 - 1
MAX_COUNT = 10**9
MAX_SIZE = 8192
MAX_BATCH = 2**16

Seed = Annotated[int, Field(ge=0, le=MAX_SEED, description="seed of all random draws")]
"""The range that torch's generators accept."""
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
"""Number of images, steps or trials."""
BatchSize = Annotated[int, Field(ge=1, le=MAX_BATCH, description="images per training step")]
Size = Annotated[int, Field(ge=1, le=MAX_SIZE)]
"""Pixels a side."""
Width = Annotated[int, Field(ge=1, le=MAX_SIZE)]
"""Number of channels of a layer or a latent."""
BlockWidths = Annotated[
    tuple[Annotated[int, Field(ge=16, le=MAX_SIZE, multiple_of=16)], ...], Field(min_length=1, max_length=12)
]
"""Number of channels at each resolution; group norms need multiples of 16."""
Depth = Annotated[int, Field(ge=1, le=1000, description="number of layers, blocks or repetitions")]
"""Number of layers, blocks or repetitions."""
LearningRate = Annotated[float, Field(gt=0, le=10, description="learning rate of AdamW, after warm-up")]
Weight = Annotated[float, Field(ge=0, le=1e6)]
"""Weight of a term in a sum, or of a guidance step."""
Probability = Annotated[float, Field(gt=0, lt=1)]
"""Probability of an error: neither 0 nor 1."""
Decibels = Annotated[float, Field(ge=-60, le=60)]
"""A ratio of noise variances of up to a million, in either direction."""
Logarithm = Annotated[float, Field(ge=-700, le=700)]
"""A number whose exponential is neither 0 nor infinite in float64."""


def ranges(info: FieldInfo) -> list[str]:
    """The range of each number in a field, in words: "at least 1 and at most 8192"; [] if it has no numbers.

    Includes numbers in tuples and in members of a union. A side without a bound is left out.
    """
    return [" and ".join(filter(None, _words(bounds))) for _, bounds in numbers(info.annotation, info.metadata)]


def numbers(annotation: Any, metadata: Any = ()) -> Iterator[tuple[type, list[Any]]]:
    """(int or float, its constraints) of each number in a type: itself, in a union, a tuple, a list."""
    if annotation in (int, float):
        yield annotation, list(_flat(metadata))
    elif hasattr(annotation, "__metadata__"):
        yield from numbers(annotation.__origin__, [*annotation.__metadata__, *metadata])
    elif not (isinstance(annotation, type) and not get_args(annotation)):
        for argument in get_args(annotation):
            # bounds of a union apply to its numbers, as in `int | None`
            yield from numbers(argument, metadata)


def is_bounded(constraints: list[Any]) -> bool:
    """Whether the number has a lower and an upper bound."""
    below = any(isinstance(c, Ge | Gt) for c in constraints)
    return below and any(isinstance(c, Le | Lt) for c in constraints)


def _words(constraints: list[Any]) -> tuple[str, str]:
    lower = upper = ""
    for constraint in constraints:
        match constraint:
            case Ge(ge=bound):
                lower = f"at least {_exact(bound)}"
            case Gt(gt=bound):
                lower = f"above {_exact(bound)}"
            case Le(le=bound):
                upper = f"at most {_exact(bound)}"
            case Lt(lt=bound):
                upper = f"below {_exact(bound)}"
    return lower, upper


def _exact(bound: Any) -> str:
    return str(int(bound)) if bound == int(bound) else str(bound)


def _flat(metadata: Any) -> Iterator[Any]:
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from item.metadata
        else:
            yield item
