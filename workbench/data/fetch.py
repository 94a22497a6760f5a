"""Obtaining a published data set by its kind."""

from pathlib import Path

from workbench.core.config import UserError, kind_of, members
from workbench.data import ImageSource, Source


def fetch(kind: str) -> Path:
    """Obtain the images of a source, with its default settings, unless they are present; return their location.

    Raises:
        UserError: for an unknown kind, a kind that reads the user's own files, or images that cannot be obtained.
    """
    published = {kind_of(member): member for member in members(Source) if "path" not in member.model_fields}
    own = [kind_of(member) for member in members(Source) if "path" in member.model_fields]
    if kind in own:
        raise UserError(f"{kind} reads your own files and needs no fetching: set data.path")
    if kind not in published:
        raise UserError(f"unknown kind {kind!r} for data; available: {', '.join(published)}")
    source = published[kind]()
    assert isinstance(source, ImageSource)
    return source.fetch()
