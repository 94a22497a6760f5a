"""Families that are open: how a class of yours becomes a member, and when its module may be imported.

A family is a union of configs told apart by their `kind`. To those that the workbench brings, `Open` adds any subclass
of the family's base class, under the kind MODULE:CLASS. Such a class is written as ours are, without a `kind` of its
own; the source of its module is part of its identity, so after a change results are computed anew.

Importing a module runs it. So one is imported only if this process was told to, by its own command line or in Python:
never because stored results, the values of a sweep or a job's payload name it.
"""

import functools
import hashlib
import importlib
import inspect
import operator
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, SupportsIndex, TypeVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from workbench.config import Config, UserError, external_kinds, is_termination

C = TypeVar("C", bound=Config)
T = TypeVar("T")

ALLOWED = "WORKBENCH_ALLOW"
"""The environment variable by which our jobs on other machines are told what `--allow` named here."""
NAMING = ("kind", "factory")
"""Fields whose value may name something in a module, as MODULE:NAME."""

_allowed: set[str] = set()
_carried: dict[str, None] = {}  # a set in the order in which they were given


class Member(Config):
    """The base of a family's base class. Outside the workbench, a member's `kind` is MODULE:CLASS."""

    kind: str

    _is_open: ClassVar[bool] = False

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls._is_open = not _is_ours(cls) and "kind" not in inspect.get_annotations(cls)
        if not cls._is_open:
            return
        # also below a member of ours: what is derived from LDPS is not ldps
        name, kind = f"{cls.__module__}:{cls.__qualname__}", cls.model_fields["kind"]
        # what is stored says which class it is of, and is refused by any other
        kind.annotation, kind.default = Literal[name], name  # type: ignore[assignment]
        cls.model_rebuild(force=True)  # pydantic has built the validator already, from the inherited field

    def canonical(self) -> dict[str, Any]:
        return super().canonical() | ({"source": source_digest(type(self))} if self._is_open else {})

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """From process to process as from text: its module is imported there only if it is allowed there."""
        return (_unpickled, (self.kind, self.__getstate__())) if self._is_open else super().__reduce_ex__(protocol)


class Open:
    """Opens a family: `Annotated[A | B, Field(discriminator="kind"), Open(Base)]`.

    Args:
        base: what a member from outside must be derived from.
    """

    def __init__(self, base: type[Member]) -> None:
        self.base = base

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        ours = handler(source)

        def validate(value: Any, as_ours: Callable[[Any], Any]) -> Any:
            # before pydantic looks: its union refuses a kind that is none of its own
            kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
            if not isinstance(kind, str) or ":" not in kind:
                return as_ours(value)
            return value if isinstance(value, self.base) else member(kind, self.base).model_validate(value)

        def dump(value: Any, as_ours: Callable[[Any], Any], info: Any) -> Any:
            # the union's serializer knows its own members only
            if isinstance(value, Member) and value._is_open:
                return value.model_dump(mode=info.mode)
            return as_ours(value)

        return core_schema.no_info_wrap_validator_function(
            validate,
            ours,
            serialization=core_schema.wrap_serializer_function_ser_schema(dump, info_arg=True, schema=ours),
        )


def allow(*modules: str) -> None:
    """Let configs name what is in these modules, which are imported when one does."""
    _allowed.update(modules)


def carry(*modules: str) -> None:
    """Allow modules, and have the commands that are printed and submitted allow them, too."""
    allow(*modules)
    _carried.update(dict.fromkeys(modules))


def flags() -> list[str]:
    """The options by which another command allows what `carry` was given."""
    return [f"--allow={module}" for module in _carried]


def allow_named(overrides: Mapping[str, Any]) -> None:
    """Allow the modules that overrides name which the user has typed."""
    allow(*(name.partition(":")[0] for name in named_in(overrides).values()))


def allowed() -> list[str]:
    """The modules that may be named, for processes that this one starts: those in which members were defined, too."""
    return sorted(_all_allowed() | {kind.partition(":")[0] for kind in external_kinds()})


def named_in(tree: Any, path: str = "") -> dict[str, str]:
    """What a tree of settings names in modules from outside, MODULE:NAME, by the paths at which it does."""
    if isinstance(tree, Mapping):
        found: dict[str, str] = {}
        for name, value in tree.items():
            inner = f"{path}.{name}".removeprefix(".")
            is_name = inner.rpartition(".")[2] in NAMING and isinstance(value, str) and ":" in value
            found |= {inner: value} if is_name else named_in(value, inner)
        return found
    inner_trees = enumerate(tree) if isinstance(tree, list | tuple) else ()
    return {at: name for number, item in inner_trees for at, name in named_in(item, f"{path}.{number}").items()}


def refuse_unnamed(stored: Mapping[str, Any], where: str) -> None:
    """Refuse settings from a file, which may be someone else's, that name a module which the user has not named.

    Args:
        where: what the file is, in words.

    Raises:
        UserError: saying how to name it.
    """
    for name in named_in(stored).values():
        _require_allowed(name, where)


def member(kind: str, base: type[C]) -> type[C]:
    """The class that MODULE:CLASS names.

    Raises:
        UserError: if its module was not allowed, or there is no class of that name that is derived from `base`.
    """
    # those that are defined already come first: a notebook is no module to import them from
    found: Any = external_kinds().get(kind) or find(kind)
    if not isinstance(found, type) or not issubclass(found, base):
        raise UserError(f"{kind} is no {base.__name__}: derive it from {base.__module__}.{base.__name__}")
    if inspect.isabstract(found):
        lacking = ", ".join(sorted(found.__abstractmethods__))
        raise UserError(f"{kind} is not complete: it lacks {lacking}")
    if found.model_fields["kind"].default != kind:
        raise UserError(f"{kind} calls itself {found.model_fields['kind'].default!r}: leave its `kind` out")
    return found


def find(name: str) -> Any:
    """What MODULE:NAME names.

    Raises:
        UserError: if its module was not allowed, or there is nothing of that name.
    """
    module_name, colon, path = name.partition(":")
    if not colon or not module_name or not path:
        raise UserError(f"{name!r} names nothing in a module: write it as MODULE:NAME, e.g. optics:astigmatism")
    if "<" in path:
        raise UserError(f"{name}: what is defined inside a function cannot be found again: move it out")
    _require_allowed(name)
    module = attempt(
        f"cannot import {module_name} (is it in this folder, and called as `python -m workbench`?)",
        lambda: importlib.import_module(module_name),
    )
    try:
        return operator.attrgetter(path)(module)
    except AttributeError:
        raise UserError(f"{module_name} has no {path}") from None


def attempt(failing: str, call: Callable[[], T]) -> T:
    """`call()`; what a user's code raises, or a call of sys.exit in it, becomes one line after `failing`."""
    try:
        return call()
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a user's code may raise anything
        if is_termination(error):
            raise
        told = next((line for line in str(error).splitlines() if line.strip()), "no message")
        raise UserError(f"{failing}: {type(error).__name__}: {told}") from error


# cached: what runs is what was imported, whatever its file holds by now
@functools.cache
def source_digest(written: Any) -> str:
    """Hash of the source of the module where a function was written, or a class and what of yours it is derived from.

    In a notebook, which is no file, of what can be read of the function or class itself.

    Raises:
        UserError: if nothing can.
    """
    parts = [cls for cls in written.__mro__ if not _is_ours(cls)] if isinstance(written, type) else [written]
    modules = dict.fromkeys(part.__module__ for part in parts if _is_users(part.__module__))
    text = "".join(_source(sys.modules.get(module), parts, module) for module in modules)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _source(module: Any, parts: list[Any], name: str) -> str:
    mine = [part for part in parts if part.__module__ == name]
    functions = [value for part in mine for value in vars(part).values() if inspect.isfunction(value)]
    # the whole module, whose constants and helpers count, too; a notebook may have source for its functions alone
    for group in ([module], mine, functions):
        try:
            if group:
                return "".join(map(inspect.getsource, group))
        except (OSError, TypeError):
            continue
    raise UserError(f"the source of {name}:{mine[0].__qualname__} cannot be read: put it in a file")


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in ("workbench", "studies")


def _is_users(module: str) -> bool:
    """Whether a class of that module is no library's that a member happens to be derived from."""
    return module.partition(".")[0] not in (*sys.stdlib_module_names, "pydantic")


def _all_allowed() -> set[str]:
    return _allowed | set(filter(None, os.environ.get(ALLOWED, "").split(",")))


def _require_allowed(name: str, where: str | None = None) -> None:
    module = name.partition(":")[0]
    if module in _all_allowed() or name in external_kinds():
        return
    told = f"{where} names {name[:200]!r}, which" if where else repr(name[:200])
    raise UserError(
        f"{told} is not imported unless its module is allowed: if you trust it, add --allow {module[:200]} "
        "(in Python: workbench.families.allow)"
    )


def _unpickled(kind: str, state: dict[Any, Any]) -> Config:
    # pickle itself would import the module by its name, allowed or not
    cls = member(kind, Member)
    made = cls.__new__(cls)
    made.__setstate__(state)
    return made
