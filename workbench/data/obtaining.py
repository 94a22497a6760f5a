"""Obtaining files: whole or not at all, and how a Debian package's files are had without root."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.core.config import UserError
from workbench.core.files import naming

APT_TIMEOUT = 300
"""Seconds that one apt-get command may take."""
NETWORK_TIMEOUT = 10
"""Seconds without an answer after which a download is given up."""


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, whose files move there, each in one step, when the block ends well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with naming(folder), tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as staging:
        yield Path(staging)
        folder.mkdir(exist_ok=True)
        for file in Path(staging).iterdir():
            file.replace(folder / file.name)


@contextmanager
def patience(seconds: float = NETWORK_TIMEOUT) -> Iterator[None]:
    """Let sockets wait no longer than this inside the block; torchvision's downloads have no such option."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def debian_files(package: str, folder: str, into: Path) -> None:
    """Copy the files that Debian's `package` has under `folder` (such as "usr/share/x") into a folder, without root.

    The package lists of the machine are used where they know the package; otherwise lists are fetched into a temporary
    folder.

    Raises:
        UserError: if there is no apt, no network or no such package.
    """
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        raise UserError(f"there is no {missing[0]} on this machine")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for name in ("lists/partial", "cache/archives/partial", "unpacked"):
            (work / name).mkdir(parents=True)
        # apt drops to a user of its own, who cannot enter a private temporary folder
        apt = ["apt-get", "-qq", "-o", f"Dir::Cache={work}/cache", "-o", "APT::Sandbox::User=root"]
        apt += ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20"]
        try:
            _call([*apt, "download", package], work)
        except UserError:
            apt += ["-o", f"Dir::State::lists={work}/lists"]
            _call([*apt, "update"], work)
            _call([*apt, "download", package], work)
        archives = list(work.glob("*.deb"))
        if not archives:
            raise UserError(f"apt-get did not download {package}")
        _call(["dpkg-deb", "-x", str(archives[0]), f"{work}/unpacked"], work)
        shutil.copytree(work / "unpacked" / folder, into, dirs_exist_ok=True)


def _call(command: list[str], cwd: Path) -> None:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, errors="replace", timeout=APT_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]} took longer than {APT_TIMEOUT} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise UserError(f"{command[0]}: {lines[-1]}")
