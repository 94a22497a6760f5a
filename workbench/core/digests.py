"""SHA-256 digests of the files that ship, so that a damaged file is reported instead of silently changing numbers.

A shipped folder has a file `digests.sha256` that lists the files below it, in the format of `sha256sum`:
`sha256sum -c digests.sha256` in that folder checks it without the workbench. Code that writes such a folder also writes
its digests. A folder without digests, such as a user's own, is not checked.
"""

import hashlib
import shlex
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from workbench.core.config import UserError
from workbench.core.files import write_whole

DIGESTS = "digests.sha256"
DEEPEST = 2
"""Maximum number of folder levels between the digests and a file: zoo/PAIR/unet/config.json."""


def write_digests(folder: Path, names: Iterable[str] | None = None) -> Path:
    """Write the digests of a folder's files; return the digest file.

    Args:
        names: only these files, relative to `folder`, in addition to existing entries; None: all files below it, and
            no other entries.
    """
    path = folder / DIGESTS
    digests: dict[str, str] = {}
    if names is None:
        found = (file for file in folder.rglob("*") if file.is_file() and file != path)
        changed = [file.relative_to(folder).as_posix() for file in found]
    else:
        changed = list(names)
        with suppress(UserError, OSError):  # no digests, or damaged ones
            digests = dict(_read(path))
    digests |= {name: _sha256((folder / name).read_bytes()) for name in changed}
    write_whole(path, "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())))
    return path


def checked(path: Path) -> bytes:
    """The contents of a file, checked against its digest if it has one.

    Raises:
        UserError: if the file differs from its digest or is missing; the message has the remedy.
        OSError: if it cannot be read.
    """
    return path.read_bytes() if (listed := _listed(path)) is None else listed.content()


def require(path: Path) -> None:
    """Raise UserError if a shipped file is missing or damaged. A file without a digest is not checked."""
    if (listed := _listed(path)) is not None:
        listed.content()


def is_foreign(path: Path) -> bool:
    """Whether a file is in a folder with digests but has none: it did not ship with the others."""
    home = _home(path)
    return home is not None and _name(path, home) not in _digests(home)


def listed_below(folder: Path) -> list[Path]:
    """The files below a folder that have digests, whether or not they exist."""
    home = _home(folder / DIGESTS)
    if home is None:
        return []
    return [path for name in _digests(home) if (path := home / name).is_relative_to(folder.absolute())]


def damaged(folder: Path) -> list[Path]:
    """The files of a folder that are missing or differ from its digests, or the digests themselves; [] if none.

    A folder without digests has no damaged files.
    """
    if not (folder / DIGESTS).is_file():
        return []
    try:
        names = _digests(folder)
    except UserError:
        return [folder / DIGESTS]
    return [folder / name for name, digest in names.items() if not _holds(folder / name, digest)]


def remedy(paths: Iterable[Path]) -> str:
    """How to restore files as they shipped."""
    return f"restore from version control (git checkout -- {shlex.join(map(str, paths))})"


@dataclass(frozen=True)
class _Listed:
    """A file and its expected digest."""

    path: Path
    digest: str
    home: Path

    def content(self) -> bytes:
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise self._refusal(error.strerror or "it cannot be read") from None
        if _sha256(content) != self.digest:
            raise self._refusal("its SHA-256 differs")
        return content

    def _refusal(self, reason: str) -> UserError:
        return UserError(
            f"{self.path} is damaged ({reason}): {remedy([self.path])}; "
            f"or, if you changed it on purpose, delete {self.home / DIGESTS}"
        )


def _listed(path: Path) -> _Listed | None:
    """The file's entry in the digests of its folder or of one above; None if it has none."""
    if (home := _home(path)) is None:
        return None
    digest = _digests(home).get(_name(path, home))
    return None if digest is None else _Listed(path, digest, home)


def _home(path: Path) -> Path | None:
    """The nearest parent folder of a file that has digests."""
    return next(
        (folder for folder in list(path.absolute().parents)[: DEEPEST + 1] if (folder / DIGESTS).is_file()), None
    )


def _name(path: Path, home: Path) -> str:
    return path.absolute().relative_to(home).as_posix()


def _digests(folder: Path) -> dict[str, str]:
    path = folder / DIGESTS
    status = path.stat()
    return _cached(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _cached(path: Path, _changed: int, _size: int) -> dict[str, str]:
    return _read(path)


def _read(path: Path) -> dict[str, str]:
    """Map names to digests.

    Raises:
        UserError: if a line does not have that format.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        digests = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        if not digests or not all(name and len(bytes.fromhex(digest)) == 32 for name, digest in digests.items()):
            raise ValueError
    except (OSError, ValueError):
        raise UserError(f"{path} is damaged (it has no valid digests): {remedy([path])}") from None
    return digests


def _holds(path: Path, digest: str) -> bool:
    try:
        return _sha256(path.read_bytes()) == digest
    except OSError:
        return False


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
