"""Every setting of every kind, read from the configs: type, range, default, description."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from workbench.core.bounds import ranges
from workbench.core.config import Config, kind_of, members


@dataclass(frozen=True)
class Setting:
    """A field of a config.

    Attributes:
        name: as in a dotted path.
        type: type of its values, with the range of numbers.
        default: as printed; "" if a value is required.
        meaning: one line.
    """

    name: str
    type: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Member:
    """A kind of a family: its settings and the first line of its docstring."""

    kind: str
    meaning: str
    settings: tuple[Setting, ...]


@dataclass(frozen=True)
class Family:
    """The kinds that one field accepts.

    Attributes:
        name: name of the field: `solver` in `--solver.kind=ldps`.
        members: its kinds.
    """

    name: str
    members: tuple[Member, ...]


def families(*cells: type[Config]) -> list[Family]:
    """The cells, then every family that they contain, at any depth, each once."""
    found: dict[tuple[type[Config], ...], str] = {}
    for cell in cells:
        _collect(cell, found)
    whole = [kinds for kinds in found if not any(set(kinds) < set(other) for other in found)]
    own = Family("cell", tuple(member(cell) for cell in cells))
    return [own, *(Family(found[kinds], tuple(map(member, kinds))) for kinds in whole)]


def member(config: type[Config]) -> Member:
    """A kind with its settings."""
    kind = kind_of(config) if "kind" in config.model_fields else config.__name__
    fields = ((name, info) for name, info in config.model_fields.items() if name != "kind")
    return Member(kind, first_line(config), tuple(setting(name, info) for name, info in fields))


def setting(name: str, info: FieldInfo) -> Setting:
    """A field; if it accepts a family, its type lists the kinds."""
    kinds = members(info.annotation)
    meaning = info.description or (first_line(_base(kinds)) if kinds else "")
    default = "" if info.is_required() else _shown(info.get_default(call_default_factory=True))
    return Setting(name, _typed(info), default, meaning)


def first_line(config: type) -> str:
    """The first line of a class's docstring."""
    return (config.__doc__ or "").strip().partition("\n")[0]


def _collect(config: type[Config], found: dict[tuple[type[Config], ...], str]) -> None:
    for name, info in config.model_fields.items():
        kinds = members(info.annotation)
        if not kinds or kinds in found:
            continue
        found[kinds] = name
        for kind in kinds:
            _collect(kind, found)


def _base(kinds: tuple[type[Config], ...]) -> type:
    """The common base class of all kinds of a family; the kind itself if there is only one."""
    shared = (cls for cls in kinds[0].__mro__ if all(issubclass(kind, cls) for kind in kinds))
    return next(shared, Config)


def _typed(info: FieldInfo) -> str:
    kinds = members(info.annotation)
    if kinds:
        return " | ".join(kind_of(kind) if "kind" in kind.model_fields else kind.__name__ for kind in kinds)
    ranged = dict.fromkeys(filter(None, ranges(info)))
    return ", ".join([_name(info.annotation), *ranged])


def _name(annotation: Any) -> str:
    """A short name of a type."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _name(get_args(annotation)[0])
    if origin is Literal:
        return " | ".join(map(str, get_args(annotation)))
    if origin in (Union, UnionType):
        return " | ".join("none" if arm is NoneType else _name(arm) for arm in get_args(annotation))
    if origin is not None:
        inside = dict.fromkeys(_name(arm) for arm in get_args(annotation) if arm is not Ellipsis)
        return f"{origin.__name__} of {', '.join(inside)}"
    return "text" if annotation is str else getattr(annotation, "__name__", str(annotation)).lower()


def _shown(value: Any) -> str:
    if isinstance(value, Config):
        return kind_of(type(value)) if "kind" in type(value).model_fields else "its defaults"
    if isinstance(value, tuple | list):
        return ", ".join(map(_shown, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def undescribed(found: list[Family]) -> Iterator[str]:
    """The settings without a description."""
    for family in found:
        for one in family.members:
            yield from (f"{family.name}: {one.kind}.{s.name}" for s in one.settings if not s.meaning)
