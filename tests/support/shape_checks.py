"""The type checker of `pytest --typecheck`: beartype, for functions that jaxtyping decorates one by one."""

from collections.abc import Callable
from typing import Any

import typer
from beartype import BeartypeConf, beartype
from beartype.door import is_bearable
from beartype.roar import BeartypeException

CONF = BeartypeConf(is_pep484_tower=True)
"""An int passes for a float, as it does for mypy."""


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
