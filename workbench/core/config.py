"""Frozen configurations: dotted overrides, canonical JSON, identities, and errors that tell the user what to do."""

import hashlib
import json
import math
import signal
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NoReturn, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from workbench.core.bounds import ranges

_ABSENT = object()
_NO_NUMBER = PydanticCustomError("no_number", "Input should be a number, not true or false")

MAX_DIGITS, MAX_DEPTH = 40, 32
"""Maximum number of digits of a number, and of nested brackets, on the command line."""
MAX_SHOWN = 200
"""Maximum number of characters of a value in a message."""


class UserError(ValueError):
    """An error that the user can fix. The command line prints the message as one line, without a traceback."""


TERMINATED = 128 + signal.SIGTERM
"""The exit code, as shells count, of a command ended by SIGTERM."""


def is_termination(error: BaseException) -> bool:
    """Whether this error comes from SIGTERM, and not from a call of sys.exit in other code."""
    return isinstance(error, SystemExit) and error.code == TERMINATED


class UnknownFieldError(UserError):
    """An override of a field that does not exist.

    Args:
        path: the dotted path of the unknown field.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:  # pickled between processes
        return type(self), (self.path, str(self))


NOT_IDENTITY: dict[str, JsonValue] = {"identity": False}
"""`json_schema_extra` of a field that cannot change a result (a path, a batch size); it is not part of the identity."""
ADDED_LATER: dict[str, JsonValue] = {"identity": "unless default"}
"""`json_schema_extra` of a field whose default reproduces results from before the field existed. Only other values are
part of the identity, so that the older results keep theirs."""


class Config(BaseModel):
    """A frozen configuration that rejects unknown fields.

    A family (degradations, solvers ...) is a union of such configs, discriminated by `kind`.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, tree: Any) -> Any:
        """Reject booleans as numbers: Python treats True as 1 and False as 0."""
        if isinstance(tree, Mapping) and (wrong := [name for name in tree if _is_truth_for_number(cls, name, tree)]):
            errors = [InitErrorDetails(type=_NO_NUMBER, loc=(name,), input=tree[name]) for name in wrong]
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return tree

    def replace(self, overrides: Mapping[str, Any] | None = None, /, **fields: Any) -> Self:
        """A copy with dotted `overrides` applied, validated as a whole.

        A new `kind` drops the fields of the old member: `{"solver.kind": "psld", "solver.weight": 0.2}`.

        Raises:
            UserError: for an unknown field or kind or an invalid value; the message lists the valid ones.
        """
        wanted = {**(overrides or {}), **fields}
        tree = self.model_dump()
        # outer fields and kinds first, so that a new member is in place before its fields are set
        for path in sorted(wanted, key=lambda p: (p.count("."), p.rpartition(".")[2] != "kind")):
            *parents, leaf = path.split(".")
            node = tree
            for depth, name in enumerate(parents):
                if node.get(name) is None:
                    _require_field(type(self), tree, tuple(parents[: depth + 1]), path)
                    node[name] = {}
                parent, node = node, node[name]
                # a member given by its name: --start.variance=mine:Source --start.variance.scale=2
                if isinstance(node, str) and _is_family(type(self), tree, tuple(parents[: depth + 1])):
                    parent[name] = node = {"kind": node}
                if not isinstance(node, dict):
                    raise UserError(f"{path}: {'.'.join(parents[: depth + 1])} is a plain value and has no fields")
            value = wanted[path]
            if leaf == "kind" and node.get("kind") != value:
                node.clear()
            node[leaf] = value.model_dump() if isinstance(value, BaseModel) else value
        return self.parse(tree)

    @classmethod
    def parse(cls, tree: Mapping[str, Any]) -> Self:
        """Validate a nested mapping; turn pydantic's errors into one UserError."""
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise _explained(cls, dict(tree), error) from None

    def canonical(self) -> dict[str, Any]:
        """The content of the identity: every field, defaults included, unless marked NOT_IDENTITY or ADDED_LATER."""
        fields = ((name, getattr(self, name), info) for name, info in type(self).model_fields.items())
        return {name: plain(value) for name, value, info in fields if _counts(info, value)}

    @property
    def identity(self) -> str:
        """The first 12 hex digits of the SHA-256 of the canonical JSON."""
        return digest(self.canonical())


def plain(value: Any) -> Any:
    """A config value as JSON-serializable data, with nested configs in their canonical form."""
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

    Values are parsed as JSON if possible, and are text otherwise. If a field is given twice, the last value counts, as
    for ordinary options, so a script can append overrides to its own settings.

    Raises:
        UserError: for an argument that is not of the form --a.b=value, or a value that no field accepts: a number that
            is too large, too many nested brackets, an object with a duplicate key, text with null characters.
    """
    overrides: dict[str, Any] = {}
    for argument in arguments:
        name, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not equals or not name:
            raise UserError(f"cannot read {shown(argument)}: write overrides as --a.b=value")
        try:
            overrides[name] = _read(text)
        except UserError as error:
            raise UserError(f"--{name}: {error}") from None
    return overrides


def require_range(name: str, value: float, low: float, high: float) -> None:
    """Raise UserError unless an option's value is between `low` and `high`."""
    if not low <= value <= high:
        raise UserError(f"{name} must be at least {low} and at most {high}, got {shown(value)}")


def shown(value: Any) -> str:
    """A value for a message: on one line, without control characters, truncated if it is long."""
    if isinstance(value, int) and value.bit_length() > MAX_SHOWN:  # Python refuses to print very large integers
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def overrides_between(config: Config, other: Config) -> dict[str, Any]:
    """The overrides, as plain data, that turn `config` into `other` of the same class; {} if they are equal."""
    return dict(_changes("", config, other, other.model_dump(mode="json")))


def as_override(path: str, value: Any) -> str:
    """The command-line argument that `parse_overrides` reads as this value at this path."""
    return f"--{path}={value if isinstance(value, str) else json.dumps(value)}"


def members(family: Any) -> tuple[type[Config], ...]:
    """The config classes of a family (a union, possibly Annotated, of configs)."""
    return tuple(_configs_in(family))


def kind_of(member: type[Config]) -> str:
    """The `kind` that selects a member of a family."""
    return str(member.model_fields["kind"].default)


def external_kinds() -> dict[str, type[Config]]:
    """The external members that are defined, by their kind MODULE:CLASS; see workbench/core/families.py."""
    with_kind = {kind_of(cls): cls for cls in _below(Config) if "kind" in cls.model_fields}
    return {kind: cls for kind, cls in with_kind.items() if ":" in kind and cls.__module__ in sys.modules}


def _changes(path: str, here: Any, there: Any, plain_there: Any) -> Iterator[tuple[str, Any]]:
    """(path, value) of each change that `replace` needs: for another member, its kind and its non-default values."""
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


def _read(text: str) -> Any:
    """The value as JSON, or else the text itself."""
    try:
        value = json.loads(
            text, parse_int=_int, parse_float=_float, parse_constant=_refuse_constant, object_pairs_hook=_dict
        )
    except json.JSONDecodeError:
        value = text
    except RecursionError:
        raise UserError("too many nested brackets") from None
    _require_plain(value, MAX_DEPTH)
    return value


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise UserError(f"a number of {len(digits)} digits is too large")
    return int(digits)


def _float(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise UserError(f"the number {shown(digits)[1:-1]} is too large")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError("no JSON", name, 0)  # so NaN is text (perhaps a file name), not a number


def _dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise UserError(f"{shown(min(doubled))} is given twice: remove one")
    return dict(pairs)


def _require_plain(value: Any, depth: int) -> None:
    """Raise UserError for values that are nested too deeply, and for text that no file system or JSON can store."""
    if isinstance(value, str):
        try:
            value.encode("utf-8", "surrogateescape")  # bytes of a file name that are not UTF-8 arrive in this form
        except UnicodeEncodeError:
            raise UserError(f"{shown(value)} contains half a character (a lone surrogate)") from None
        if "\0" in value:
            raise UserError(f"{shown(value)} contains a null character")
    elif isinstance(value, dict | list):
        if not depth:
            raise UserError("too many nested brackets")
        for item in (*value, *value.values()) if isinstance(value, dict) else value:
            _require_plain(item, depth - 1)


def _is_truth_for_number(cls: type[Config], field: Any, tree: Mapping[Any, Any]) -> bool:
    given = tree[field] if isinstance(tree[field], list | tuple) else [tree[field]]
    if not any(isinstance(item, bool) for item in given) or field not in cls.model_fields:
        return False
    kinds = set(_kinds_in(cls.model_fields[field].annotation))
    return bool(kinds & {int, float}) and bool not in kinds


def _kinds_in(annotation: Any) -> Iterator[type]:
    """The types in an annotation, including those of the values of a Literal."""
    if isinstance(annotation, type):
        yield annotation
    elif get_origin(annotation) is Literal:
        yield from map(type, get_args(annotation))
    for argument in get_args(annotation):
        yield from _kinds_in(argument)


def _counts(info: FieldInfo, value: Any) -> bool:
    match info.json_schema_extra:
        case {"identity": False}:
            return False
        case {"identity": "unless default"}:
            return bool(value != info.default)
        case _:
            return True


def _below(cls: type[Config]) -> Iterator[type[Config]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _below(sub)


def _configs_in(annotation: Any) -> Iterator[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    elif get_origin(annotation) is Annotated:
        yield from _configs_in(get_args(annotation)[0])
    elif get_origin(annotation) is not Literal:
        for argument in get_args(annotation):
            yield from _configs_in(argument)


def _member_at(cls: type[Config], tree: Any, path: tuple[Any, ...]) -> type[Config] | None:
    """The config class at `path` below `cls`, given the values in `tree`; None if there is no config."""
    for name in path:
        if not isinstance(name, str) or name not in cls.model_fields:
            return None
        tree = tree.get(name) if isinstance(tree, dict) else None
        candidates = members(cls.model_fields[name].annotation)
        kind = tree.get("kind") if isinstance(tree, dict) else None
        named = [c for c in candidates if "kind" in c.model_fields and kind_of(c) == kind]
        outside = external_kinds().get(str(kind))
        chosen = named or [outside or candidates[0]] if candidates else []
        if not chosen:
            return None
        cls = chosen[0]
    return cls


def _is_family(cls: type[Config], tree: Any, path: tuple[str, ...]) -> bool:
    found = _member_at(cls, tree, path)
    return found is not None and "kind" in found.model_fields


def _require_field(cls: type[Config], tree: Any, path: tuple[str, ...], override: str) -> None:
    owner = _member_at(cls, tree, path[:-1])
    if owner is None or path[-1] not in owner.model_fields:
        raise UnknownFieldError(override, f"unknown field {override!r}{_choices(owner)}")


def _choices(owner: type[Config] | None) -> str:
    return f"; {_title(owner)} has: {', '.join(owner.model_fields)}" if owner else ""


def _title(cls: type[Config]) -> str:
    return kind_of(cls) if "kind" in cls.model_fields else cls.__name__


def _explained(cls: type[Config], tree: dict[str, Any], error: ValidationError) -> UserError:
    """The first pydantic error as one line, in terms of the command line."""
    first = error.errors()[0]
    path: list[Any] = []
    node: Any = tree
    for part in first["loc"]:
        # pydantic includes a union's tag in the location; the user's path does not
        if isinstance(node, dict) and node.get("kind") == part and part not in node:
            continue
        if isinstance(part, str) and node is not None and not isinstance(node, Mapping):  # a tag of plain values
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
        given = first.get("input")
        tag = given.get("kind") if isinstance(given, Mapping) else given
        hint = "; your own class is MODULE:CLASS" if isinstance(tag, str) and "." in tag else ""
        expected = str(first.get("ctx", {}).get("expected_tags", "")).replace("'", "")
        return UserError(
            f"unknown kind {shown(tag)} for {dotted or cls.__name__}; available: {expected}{hint}"
            if expected
            else f"{dotted} has no kind: set --{dotted}.kind=..."
        )
    if first["type"] == "model_attributes_type":
        value = shown(first["input"])
        return UserError(f"{dotted} has fields: set them with --{dotted}.NAME=VALUE (got {value})")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return UserError(f"{dotted}: {message}" if dotted else message)
    message = message[0].lower() + message[1:]
    if first["type"] in _COMPARISONS and (allowed := _range_at(cls, tree, path)):
        message = f"input should be {allowed}"
    return UserError(f"{dotted or cls.__name__}: {message} (got {shown(first.get('input'))})")


_COMPARISONS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")


def _range_at(cls: type[Config], tree: dict[str, Any], path: list[Any]) -> str:
    """The range of the number at `path`; "" if the numbers of the field have different ranges."""
    *parents, last = path
    if isinstance(last, int):  # a number in a tuple
        *parents, last = parents
    owner = _member_at(cls, tree, tuple(parents))
    found = set(ranges(owner.model_fields[last])) if owner is not None and last in owner.model_fields else set()
    return found.pop() if len(found) == 1 else ""
