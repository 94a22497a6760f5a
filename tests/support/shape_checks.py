"""The type checker of `pytest --typecheck`: beartype, for functions that jaxtyping decorates one by one.

It checks the modules that annotate tensors. The others are mypy's: a check at every call of what has no shape takes a
third of the time of all tests and finds nothing that mypy does not.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from beartype import BeartypeConf, beartype
from beartype.door import is_bearable
from beartype.roar import BeartypeException

CONF = BeartypeConf(is_pep484_tower=True)
"""An int passes for a float, as it does for mypy."""

ANNOTATES_TENSORS = re.compile(r"^\s*(from|import) (workbench\.core\.tensors|jaxtyping)\b", re.MULTILINE)


def modules_with_shapes(package: Path) -> list[str]:
    """The modules below a package's folder whose annotations name shapes of tensors."""
    found = [path for path in sorted(package.rglob("*.py")) if ANNOTATES_TENSORS.search(path.read_text())]
    names = [path.relative_to(package.parent).with_suffix("").parts for path in found]
    return [".".join(parts) for parts in names if parts[-1] != "__init__"]


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check the arguments and the result of every call of `function`.

    Annotations that beartype cannot check on a lone function (`Self`, protocols not made for it) are left alone, and so
    is typer's `Context`, in whose place typer passes the base class.
    """
    annotations = getattr(function, "__annotations__", {})
    for name, annotation in annotations.items():
        if annotation is typer.Context or not can_check(annotation):
            annotations[name] = Any
    return beartype(conf=CONF)(function)


def can_check(annotation: Any) -> bool:
    """Whether beartype accepts this annotation."""
    try:
        is_bearable(None, annotation)
    except BeartypeException:
        return False
    return True
