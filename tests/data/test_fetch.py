import contextlib
import socket

import pytest

from workbench.core.config import UserError
from workbench.data import FashionMNIST, obtaining
from workbench.data.fetch import fetch


def test_fetch_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(FashionMNIST, "fetch", lambda _: tmp_path)
    assert fetch("fashion_mnist") == tmp_path


def test_names_that_cannot_be_fetched():
    with pytest.raises(UserError, match="available: fashion_mnist, cifar10, tiny_imagenet, imagenette, eurosat"):
        fetch("imagenet")
    for kind in ("image_folder", "npy"):
        with pytest.raises(UserError, match=r"own files.*data\.path"):
            fetch(kind)


def test_debian_files_without_apt(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get is not installed"):
        obtaining.debian_files("some-package", "usr/share/some", tmp_path)


def test_debian_files_updates_lists_of_its_own_where_the_package_is_unknown(tmp_path, monkeypatch):
    """apt-get knows the package only after an update into redirected lists; nothing of the machine's is written."""
    commands = []

    def call(command, cwd):
        commands.append(command)
        own_lists = any(f"Dir::State::lists={cwd}/lists" in part for part in command)
        assert command[0] == "dpkg-deb" or any(f"Dir::Cache={cwd}/cache" in part for part in command)
        if "download" in command:
            if not own_lists:
                raise UserError("Unable to locate package")
            (cwd / "some_1.deb").touch()
        if command[0] == "dpkg-deb":
            folder = cwd / "unpacked" / "usr/share/some"
            folder.mkdir(parents=True)
            (folder / "file").write_text("content")

    monkeypatch.setattr(obtaining.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(obtaining, "_call", call)
    obtaining.debian_files("some", "usr/share/some", tmp_path / "into")
    assert (tmp_path / "into" / "file").read_text() == "content"
    assert [("update" in c, "download" in c) for c in commands] == [
        (False, True),
        (True, False),
        (False, True),
        (False, False),
    ]


def test_a_failing_command_says_why(tmp_path):
    with pytest.raises(UserError, match="sh: no luck"):
        obtaining._call(["sh", "-c", "echo first >&2; echo no luck >&2; exit 3"], tmp_path)


def test_a_hanging_command_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(obtaining, "APT_TIMEOUT", 0.1)
    with pytest.raises(UserError, match="longer than"):
        obtaining._call(["sleep", "20"], tmp_path)


def test_patience_is_restored():
    before = socket.getdefaulttimeout()
    with contextlib.suppress(OSError), obtaining.patience(3):
        assert socket.getdefaulttimeout() == 3
        raise OSError
    assert socket.getdefaulttimeout() == before
