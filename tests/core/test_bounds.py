"""Every number in every config has a lower and an upper bound, and what the project itself uses lies inside."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import Field
from pydantic.fields import FieldInfo

import studies
import workbench
from workbench.core.bounds import BlockWidths, Count, Probability, Seed, is_bounded, numbers, ranges
from workbench.core.config import Config, UserError
from workbench.experiments.catalogue import study_names
from workbench.experiments.study import load_study
from workbench.stages.measure.evaluate import Evaluate


def configs() -> list[type[Config]]:
    """Every config of the project."""
    for package in (workbench, studies):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    found = {cls for cls in below(Config) if cls.__module__.partition(".")[0] in ("workbench", "studies")}
    return sorted(found, key=lambda cls: f"{cls.__module__}.{cls.__qualname__}")


def below(cls: type[Config]) -> Iterator[type[Config]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from below(sub)


def test_every_number_has_a_lower_and_an_upper_bound() -> None:
    unbounded, seen = [], 0
    for cls in configs():
        for name, info in cls.model_fields.items():
            for kind, constraints in numbers(info.annotation, info.metadata):
                seen += 1
                if not is_bounded(constraints):
                    unbounded.append(f"{cls.__module__}.{cls.__qualname__}.{name}: {kind.__name__}")
    assert not unbounded, "give them a type of workbench/core/bounds.py, or ge/gt and le/lt"
    assert seen > 150


class Unsound(Config):
    plain: int = 1
    below_only: float = Field(1.0, ge=0)
    some: tuple[float, ...] = (1.0,)
    maybe: int | None = None
    deep: tuple[tuple[int, float], ...] = ()
    table: dict[str, float] = Field({})


class Sound(Config):
    seed: Seed = 0
    count: Count | None = None
    widths: BlockWidths = (16,)
    risks: tuple[Probability, ...] = (0.1,)
    whole: int | None = Field(None, ge=1, le=3)
    text: str = "1"
    flag: bool = False
    other: Config | None = None


@pytest.mark.parametrize("name", Unsound.model_fields)
def test_what_has_no_bound_is_found(name: str) -> None:
    assert not all(is_bounded(constraints) for _, constraints in of(Unsound.model_fields[name]))


@pytest.mark.parametrize("name", Sound.model_fields)
def test_what_has_bounds_passes(name: str) -> None:
    assert all(is_bounded(constraints) for _, constraints in of(Sound.model_fields[name]))


def of(info: FieldInfo) -> list[tuple[type, list[Any]]]:
    return list(numbers(info.annotation, info.metadata))


def test_ranges_in_words() -> None:
    assert {name: ranges(info) for name, info in Sound.model_fields.items()} == {
        "seed": ["at least 0 and at most 9223372036854775807"],
        "count": ["at least 1 and at most 1000000000"],
        "widths": ["at least 16 and at most 8192"],
        "risks": ["above 0 and below 1"],
        "whole": ["at least 1 and at most 3"],
        "text": [],
        "flag": [],
        "other": [],
    }
    assert ranges(Unsound.model_fields["below_only"]) == ["at least 0"]


def test_what_is_searched_lies_inside() -> None:
    """`tasks` tries both ends of every distribution."""
    searched = [study for study, _ in map(load_study, study_names()) if study.search]
    assert searched
    for study in searched:
        assert study.tasks("smoke", {})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"start.offset_db": -1e6}, "start.offset_db: input should be at least -60 and at most 60 (got -1000000.0)"),
        ({"start.offset_db": 1e308}, "start.offset_db: input should be at least -60 and at most 60 (got 1e+308)"),
        ({"seed": -1}, "seed: input should be at least 0 and at most 9223372036854775807 (got -1)"),
        ({"start.risk": 0}, "start.risk: input should be above 0 and below 1 (got 0)"),
        ({"solver.guidance_scale": 1e7}, "solver.guidance_scale: input should be at least 0 and at most 1000000 (got"),
        ({"prior.block_out_channels": [16, 2**14]}, "prior.block_out_channels.1: input should be at least 16 and at"),
        ({"prior.learning_rate": 1e30}, "prior.learning_rate: input should be above 0 and at most 10 (got 1e+30)"),
        ({"prior.batch_size": 10**6}, "prior.batch_size: input should be at least 1 and at most 65536 (got 1000000)"),
    ],
)
def test_refusals_name_the_whole_range(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        Evaluate().replace(overrides)
    assert str(raised.value).startswith(message)


def test_bounds_are_no_part_of_an_identity() -> None:
    class Before(Config):
        seed: int = 0
        weights: tuple[float, ...] = (1.0,)

    class Now(Config):
        seed: Seed = 0
        weights: tuple[Probability, ...] = Field((0.5,), max_length=3)

    assert Now(weights=(0.25,)).canonical() == Before(weights=(0.25,)).canonical()
    assert Now(weights=(0.25,)).identity == Before(weights=(0.25,)).identity
