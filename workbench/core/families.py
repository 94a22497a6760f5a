"""Open families: how your own class becomes a member, and when its module may be imported.

A family is a union of configs discriminated by `kind`. `Open` extends the built-in members by any subclass of the
family's base class, with the kind MODULE:CLASS. Write such a class like the built-in ones, but without a `kind`. The
source code of its module is part of its identity, so results are recomputed after a change.

Importing a module runs its code. A module is imported only if this process was told to, on its command line or in
Python, and never because stored results, the values of a sweep or a job's payload name it.
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

from workbench.core.config import Config, UserError, external_kinds, is_termination

C = TypeVar("C", bound=Config)
T = TypeVar("T")

ALLOWED = "WORKBENCH_ALLOW"
"""The environment variable that passes `--allow` on to our jobs on other machines."""
NAMING = ("kind", "factory", "variance", "metrics", "reconstructor")
"""Fields whose value may name an object in a module, as MODULE:NAME."""

_allowed: set[str] = set()
_carried: dict[str, None] = {}  # an ordered set


class Member(Config):
    """The root of every family's base class. The `kind` of an external member is MODULE:CLASS."""

    kind: str

    _is_open: ClassVar[bool] = False

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls._is_open = not _is_ours(cls) and "kind" not in inspect.get_annotations(cls)
        if not cls._is_open:
            return
        # also for a subclass of a built-in member: a subclass of LDPS is not ldps
        name, kind = f"{cls.__module__}:{cls.__qualname__}", cls.model_fields["kind"]
        # stored settings name their class, and other classes reject them
        kind.annotation, kind.default = Literal[name], name  # type: ignore[assignment]
        cls.model_rebuild(force=True)  # pydantic has already built the validator from the inherited field

    def canonical(self) -> dict[str, Any]:
        return super().canonical() | ({"source": source_digest(type(self))} if self._is_open else {})

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Pickle as text: the module is imported in the other process only if it is allowed there."""
        return (_unpickled, (self.kind, self.__getstate__())) if self._is_open else super().__reduce_ex__(protocol)


class Open:
    """Opens a family: `Annotated[A | B, Field(discriminator="kind"), Open(Base)]`.

    Args:
        base: the class that an external member must derive from.
    """

    def __init__(self, base: type[Member]) -> None:
        self.base = base

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        ours = handler(source)

        def validate(value: Any, as_ours: Callable[[Any], Any]) -> Any:
            # before pydantic validates, because its union rejects unknown kinds
            kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
            if not isinstance(kind, str) or ":" not in kind:
                return as_ours(value)
            return value if isinstance(value, self.base) else member(kind, self.base).model_validate(value)

        def dump(value: Any, as_ours: Callable[[Any], Any], info: Any) -> Any:
            # the union's serializer only knows its own members
            if isinstance(value, Member) and value._is_open:
                return value.model_dump(mode=info.mode)
            return as_ours(value)

        return core_schema.no_info_wrap_validator_function(
            validate,
            ours,
            serialization=core_schema.wrap_serializer_function_ser_schema(dump, info_arg=True, schema=ours),
        )


def named(member: Any) -> Any:
    """A plain name is the kind, for families whose members mostly have no fields: `--start.variance=fused`."""
    return {"kind": member} if isinstance(member, str) else member


def allow(*modules: str) -> None:
    """Allow configs to name objects in these modules, which are imported when that happens."""
    _allowed.update(modules)


def carry(*modules: str) -> None:
    """Allow modules, also in the commands that this process prints and submits."""
    allow(*modules)
    _carried.update(dict.fromkeys(modules))


def flags() -> list[str]:
    """The options that allow the same modules in another command."""
    return [f"--allow={module}" for module in _carried]


def allow_named(overrides: Mapping[str, Any]) -> None:
    """Allow the modules named in the overrides that the user has typed."""
    allow(*(name.partition(":")[0] for name in named_in(overrides).values()))


def allowed() -> list[str]:
    """The modules that may be named, for child processes; includes modules in which members were defined."""
    return sorted(_all_allowed() | {kind.partition(":")[0] for kind in external_kinds()})


def named_in(tree: Any, path: str = "") -> dict[str, str]:
    """The objects in external modules that a tree of settings names, MODULE:NAME by dotted path."""
    if isinstance(tree, Mapping):
        found: dict[str, str] = {}
        for name, value in tree.items():
            inner = f"{path}.{name}".removeprefix(".")
            if inner.rpartition(".")[2] in NAMING:
                names = value if isinstance(value, list | tuple) else str(value).split(",")
                at = [f"{inner}.{i}" for i in range(len(names))] if len(names) > 1 else [inner]
                named_here = {a: n.strip() for a, n in zip(at, names, strict=False) if isinstance(n, str) and ":" in n}
                found |= {} if isinstance(value, Mapping) else named_here
            found |= named_in(value, inner)
        return found
    inner_trees = enumerate(tree) if isinstance(tree, list | tuple) else ()
    return {at: name for number, item in inner_trees for at, name in named_in(item, f"{path}.{number}").items()}


def refuse_unnamed(stored: Mapping[str, Any], where: str) -> None:
    """Reject settings from a file, possibly someone else's, that name a module which the user has not named.

    Args:
        where: description of the file, in words.

    Raises:
            UserError: with the way to allow the module.
    """
    for name in named_in(stored).values():
        _require_allowed(name, where)


def member(kind: str, base: type[C]) -> type[C]:
    """The class MODULE:CLASS.

    Raises:
        UserError: if its module is not allowed, or it has no class of that name that derives from `base`.
    """
    # classes that are already defined come first: a notebook cannot be imported as a module
    found: Any = external_kinds().get(kind) or find(kind)
    if not isinstance(found, type) or not issubclass(found, base):
        raise UserError(f"{kind} is not a {base.__name__}: derive it from {base.__module__}.{base.__name__}")
    if inspect.isabstract(found):
        lacking = ", ".join(sorted(found.__abstractmethods__))
        raise UserError(f"{kind} is incomplete: implement {lacking}")
    if found.model_fields["kind"].default != kind:
        own = found.model_fields["kind"].default
        if _is_ours(found):
            raise UserError(f"{kind} is built in: set kind={own}")
        raise UserError(f"{kind} sets its own `kind` ({own!r}): remove it")
    return found


def find(name: str) -> Any:
    """The object MODULE:NAME.

    Raises:
        UserError: if its module is not allowed, or it has no such name.
    """
    module_name, colon, path = name.partition(":")
    if not colon or not module_name or not path:
        raise UserError(f"{name!r} is not of the form MODULE:NAME, e.g. optics:astigmatism")
    if "<" in path:
        raise UserError(
            f"{name} is defined inside a function and cannot be imported: move it to the module's top level"
        )
    if "/" in module_name or module_name.endswith(".py"):
        written = module_name.removesuffix(".py").removeprefix("./").replace("/", ".").strip(".")
        raise UserError(f"{module_name!r} is a file: name its module, as {written}:{path}")
    _require_allowed(name)
    module = attempt(
        f"cannot import {module_name} (is it in the current folder, and did you run `python -m workbench`?)",
        lambda: importlib.import_module(module_name),
    )
    try:
        return operator.attrgetter(path)(module)
    except AttributeError:
        raise UserError(f"{module_name} has no {path}") from None


def attempt(failing: str, call: Callable[[], T]) -> T:
    """`call()`; an exception or a sys.exit in the user's code becomes one line that starts with `failing`."""
    try:
        return call()
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a user's code may raise anything
        if is_termination(error):
            raise
        told = next((line for line in str(error).splitlines() if line.strip()), "no message")
        raise UserError(f"{failing}: {type(error).__name__}: {told}") from error


# cached: the imported code is what runs, even if its file has changed since
@functools.cache
def source_digest(written: Any) -> str:
    """Hash of the source of the module that defines a function or a class, and the user's base classes of the class.

    In a notebook, which has no file, the source of the function or class itself.

    Raises:
        UserError: if the source cannot be read.
    """
    parts = [cls for cls in written.__mro__ if not _is_ours(cls)] if isinstance(written, type) else [written]
    modules = dict.fromkeys(part.__module__ for part in parts if _is_users(part.__module__))
    text = "".join(_source(sys.modules.get(module), parts, module) for module in modules)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _source(module: Any, parts: list[Any], name: str) -> str:
    mine = [part for part in parts if part.__module__ == name]
    functions = [value for part in mine for value in vars(part).values() if inspect.isfunction(value)]
    # the whole module, because constants and helpers count; a notebook may only have the source of functions
    for group in ([module], mine, functions):
        try:
            if group:
                return "".join(map(inspect.getsource, group))
        except (OSError, TypeError):
            continue
    raise UserError(f"the source of {name}:{mine[0].__qualname__} cannot be read: move it to a file")


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in ("workbench", "studies")


def _is_users(module: str) -> bool:
    """Whether a module is the user's own, and not a library that a member happens to derive from."""
    return module.partition(".")[0] not in (*sys.stdlib_module_names, "pydantic")


def _all_allowed() -> set[str]:
    return _allowed | set(filter(None, os.environ.get(ALLOWED, "").split(",")))


def _require_allowed(name: str, where: str | None = None) -> None:
    module = name.partition(":")[0]
    if module in _all_allowed() or name in external_kinds():
        return
    told = f"{where} names {name[:200]!r}, which" if where else repr(name[:200])
    raise UserError(
        f"{told} is not imported because its module is not allowed: if you trust it, add --allow {module[:200]} "
        "(in Python: workbench.core.families.allow)"
    )


def _unpickled(kind: str, state: dict[Any, Any]) -> Config:
    # pickle would import the module by name, allowed or not
    cls = member(kind, Member)
    made = cls.__new__(cls)
    made.__setstate__(state)
    return made
