"""Frozen configurations: dotted overrides, canonical JSON, identity, and errors that a user can act on."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from pydantic.fields import FieldInfo

_ABSENT = object()


class UserError(ValueError):
    """Something that the user can mend. The command line prints the message as one line, without a traceback."""


class UnknownFieldError(UserError):
    """An override of a field that there is not.

    Args:
        path: the dotted path of the unknown field.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:  # from process to process
        return type(self), (self.path, str(self))


NOT_IDENTITY: dict[str, JsonValue] = {"identity": False}
"""`json_schema_extra` of a field that cannot change a result (a path, a batch size) and stays out of the identity."""
ADDED_LATER: dict[str, JsonValue] = {"identity": "unless default"}
"""`json_schema_extra` of a field whose default is what results were made with before there was the field: only another
value enters the identity, so that those results keep theirs."""


class Config(BaseModel):
    """A frozen configuration that refuses unknown fields.

    A family (degradations, solvers ...) is a union of such configs told apart by their `kind`.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True, allow_inf_nan=False
    )

    def replace(self, overrides: Mapping[str, Any] | None = None, /, **fields: Any) -> Self:
        """A copy with dotted `overrides` applied and the whole validated again.

        Naming another `kind` drops the old member's fields: `{"solver.kind": "psld", "solver.weight": 0.2}`.

        Raises:
            UserError: for an unknown field or kind or a bad value; the message lists what there is.
        """
        wanted = {**(overrides or {}), **fields}
        tree = self.model_dump()
        # from the outside in and kinds first, so that a new member is in place before its fields arrive
        for path in sorted(wanted, key=lambda p: (p.count("."), p.rpartition(".")[2] != "kind")):
            *parents, leaf = path.split(".")
            node = tree
            for depth, name in enumerate(parents):
                if node.get(name) is None:
                    _require_field(type(self), tree, tuple(parents[: depth + 1]), path)
                    node[name] = {}
                node = node[name]
                if not isinstance(node, dict):
                    raise UserError(f"{path}: {'.'.join(parents[: depth + 1])} is a plain value and has no fields")
            value = wanted[path]
            if leaf == "kind" and node.get("kind") != value:
                node.clear()
            node[leaf] = value.model_dump() if isinstance(value, BaseModel) else value
        return self.parse(tree)

    @classmethod
    def parse(cls, tree: Mapping[str, Any]) -> Self:
        """Validate a nested mapping, with pydantic's errors turned into one UserError."""
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise _explained(cls, dict(tree), error) from None

    def canonical(self) -> dict[str, Any]:
        """What the identity is made of: every field, defaults included, unless marked NOT_IDENTITY or ADDED_LATER."""
        fields = ((name, getattr(self, name), info) for name, info in type(self).model_fields.items())
        return {name: plain(value) for name, value, info in fields if _counts(info, value)}

    @property
    def identity(self) -> str:
        """The first 12 hex digits of the SHA-256 of the canonical JSON."""
        return digest(self.canonical())


def plain(value: Any) -> Any:
    """A config value as JSON-able data, nested configs in their canonical form."""
    if isinstance(value, Config):
        return value.canonical()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


def digest(tree: Any, length: int = 12) -> str:
    """The first `length` hex digits of the SHA-256 of `tree` as JSON with sorted keys."""
    text = json.dumps(plain(tree), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def parse_overrides(arguments: list[str]) -> dict[str, Any]:
    """`["--start.offset_db=3", "--solver.kind=psld"]` as `{"start.offset_db": 3, "solver.kind": "psld"}`.

    Values are JSON where they parse as JSON and text otherwise.

    Raises:
        UserError: for an argument that is not of the form --a.b=value.
    """
    overrides: dict[str, Any] = {}
    for argument in arguments:
        name, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not equals or not name:
            raise UserError(f"cannot read {argument!r}: write overrides as --a.b=value")
        try:
            overrides[name] = json.loads(text)
        except json.JSONDecodeError:
            overrides[name] = text
    return overrides


def overrides_between(config: Config, other: Config) -> dict[str, Any]:
    """The overrides, as plain data, that make `other` of `config`, both of one class; {} where they are equal."""
    return dict(_changes("", config, other, other.model_dump(mode="json")))


def as_override(path: str, value: Any) -> str:
    """The argument that `parse_overrides` reads as this value at this path."""
    return f"--{path}={value if isinstance(value, str) else json.dumps(value)}"


def members(family: Any) -> tuple[type[Config], ...]:
    """The config classes of a family (a union, possibly Annotated, of configs)."""
    return tuple(_configs_in(family))


def kind_of(member: type[Config]) -> str:
    """The `kind` by which a member of a family is chosen."""
    return str(member.model_fields["kind"].default)


def _changes(path: str, here: Any, there: Any, plain_there: Any) -> Iterator[tuple[str, Any]]:
    """(path, value) of what `replace` must put in place: of another member its kind and what is not its default."""
    if here == there:
        return
    is_same = type(here) is type(there)
    if not isinstance(there, Config) or not (is_same or "kind" in type(there).model_fields):
        yield path, plain_there
        return
    for name, info in type(there).model_fields.items():
        inner, value = f"{path}.{name}".removeprefix("."), getattr(there, name)
        if is_same:
            yield from _changes(inner, getattr(here, name), value, plain_there[name])
        elif name == "kind":
            yield inner, value
        elif value != info.get_default(call_default_factory=True):
            yield from _changes(inner, _ABSENT, value, plain_there[name])


def _counts(info: FieldInfo, value: Any) -> bool:
    match info.json_schema_extra:
        case {"identity": False}:
            return False
        case {"identity": "unless default"}:
            return bool(value != info.default)
        case _:
            return True


def _configs_in(annotation: Any) -> Iterator[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    elif get_origin(annotation) is Annotated:
        yield from _configs_in(get_args(annotation)[0])
    elif get_origin(annotation) is not Literal:
        for argument in get_args(annotation):
            yield from _configs_in(argument)


def _member_at(cls: type[Config], tree: Any, path: tuple[Any, ...]) -> type[Config] | None:
    """The config class that stands at `path` below `cls`, given the values in `tree`; None where there is no config."""
    for name in path:
        if not isinstance(name, str) or name not in cls.model_fields:
            return None
        tree = tree.get(name) if isinstance(tree, dict) else None
        candidates = members(cls.model_fields[name].annotation)
        kind = tree.get("kind") if isinstance(tree, dict) else None
        named = [c for c in candidates if "kind" in c.model_fields and kind_of(c) == kind]
        chosen = named or list(candidates[:1])
        if not chosen:
            return None
        cls = chosen[0]
    return cls


def _require_field(cls: type[Config], tree: Any, path: tuple[str, ...], override: str) -> None:
    owner = _member_at(cls, tree, path[:-1])
    if owner is None or path[-1] not in owner.model_fields:
        raise UnknownFieldError(override, f"unknown field {override!r}{_choices(owner)}")


def _choices(owner: type[Config] | None) -> str:
    return f"; {_title(owner)} has: {', '.join(owner.model_fields)}" if owner else ""


def _title(cls: type[Config]) -> str:
    return kind_of(cls) if "kind" in cls.model_fields else cls.__name__


def _explained(cls: type[Config], tree: dict[str, Any], error: ValidationError) -> UserError:
    """The first of pydantic's errors as one line in the words of the command line."""
    first = error.errors()[0]
    path: list[Any] = []
    node: Any = tree
    for part in first["loc"]:
        # pydantic names a union's tag in its location; the user's path has no such part
        if isinstance(node, dict) and node.get("kind") == part and part not in node:
            continue
        path.append(part)
        if isinstance(node, Mapping):
            node = node.get(part)
        elif isinstance(node, list | tuple) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            node = None
    dotted = ".".join(map(str, path))
    if first["type"] == "extra_forbidden":
        return UnknownFieldError(dotted, f"unknown field {dotted!r}{_choices(_member_at(cls, tree, tuple(path[:-1])))}")
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        tag = node.get("kind") if isinstance(node, Mapping) else node
        expected = str(first.get("ctx", {}).get("expected_tags", "")).replace("'", "")
        return UserError(
            f"unknown kind {tag!r} for {dotted or cls.__name__}; there are: {expected}"
            if expected
            else f"{dotted}: name its kind"
        )
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return UserError(f"{dotted}: {message}" if dotted else message)
    message = message[0].lower() + message[1:]
    return UserError(f"{dotted or cls.__name__}: {message} (got {first.get('input')!r})")
