"""Downloads that resume where they stopped and are checked against a published digest."""

import hashlib
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from workbench.core.config import UserError
from workbench.core.files import naming
from workbench.data.obtaining import NETWORK_TIMEOUT

CHUNK = 2**20
RANGE_NOT_SATISFIABLE = 416
PARTIAL_CONTENT = 206


def download(url: str, target: Path, sha256: str) -> None:
    """Download a file; an interrupted download continues from `target` with the suffix `.part`.

    Raises:
        UserError: if the downloaded file is not the published one.
        OSError: if the network fails; what has arrived is kept.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with naming(target):
        _continue(url, part)
    if file_digest(part) != sha256:
        part.unlink()
        raise UserError(f"{url} is not the published file (its SHA-256 differs); it was deleted")
    part.replace(target)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _continue(url: str, part: Path) -> None:
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=NETWORK_TIMEOUT) as answer:
            # a server that ignores the range sends the whole file again
            with part.open("ab" if answer.status == PARTIAL_CONTENT else "wb") as file:
                shutil.copyfileobj(answer, file, CHUNK)
            expected = answer.headers.get("Content-Length")
        begun = start if answer.status == PARTIAL_CONTENT else 0
        if expected is not None and part.stat().st_size < begun + int(expected):
            raise OSError("the connection was closed early; the same command continues the download")
    except urllib.error.HTTPError as error:
        if error.code != RANGE_NOT_SATISFIABLE:  # the part is whole already
            raise
