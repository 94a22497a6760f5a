"""Obtaining files, completely or not at all, including files of Debian packages without root."""

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
"""Time limit of one apt-get command in seconds."""
NETWORK_TIMEOUT = 10
"""Seconds without a response after which a download is given up."""


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `folder`; its files move there, each atomically, if the block succeeds."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with naming(folder), tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as staging:
        yield Path(staging)
        folder.mkdir(exist_ok=True)
        for file in Path(staging).iterdir():
            file.replace(folder / file.name)


@contextmanager
def patience(seconds: float = NETWORK_TIMEOUT) -> Iterator[None]:
    """Set the sockets' timeout inside the block; torchvision's downloads have no such option."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def debian_files(package: str, folder: str, into: Path) -> None:
    """Copy the files of the Debian `package` under `folder` (such as "usr/share/x") into a folder, without root.

    Uses the machine's package lists if they contain the package; otherwise downloads the lists into a temporary
    folder.

    Raises:
        UserError: if apt, the network or the package is missing.
    """
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        raise UserError(f"{missing[0]} is not installed")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for name in ("lists/partial", "cache/archives/partial", "unpacked"):
            (work / name).mkdir(parents=True)
        # apt switches to its own user, who cannot enter a private temporary folder
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
