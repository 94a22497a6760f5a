"""Whatever a reader of foreign files raises ends in one line; what is the program's own fault does not."""

import errno
import os
import struct
import tokenize
import zipfile
import zlib
from http.client import IncompleteRead

import pytest

from workbench.core.config import UserError
from workbench.core.foreign import readable


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (MemoryError("12 TiB"), "it does not fit into memory"),
        (RecursionError("maximum recursion depth exceeded"), "it is nested too deeply"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "it is not UTF-8 text"),
        (PermissionError(13, "Permission denied", "x"), "Permission denied"),
        (zlib.error("Error -3 while\n decompressing"), "Error -3 while decompressing"),
        (struct.error("unpack requires 4 bytes"), "unpack requires 4 bytes"),
        (tokenize.TokenError("EOF in multi-line statement", (1, 0)), "EOF in multi-line statement', (1, 0)"),
        (NotImplementedError("compression type 97"), "compression type 97"),
        (zipfile.BadZipFile("Bad CRC-32"), "Bad CRC-32"),
        (IncompleteRead(b"half"), "IncompleteRead"),
        (KeyError("shape"), "it is damaged"),
        (EOFError(), "it is damaged"),
        (ValueError("x" * 1000), f"{'x' * 200} ..."),
    ],
)
def test_foreign_exceptions_end_in_one_line(error: Exception, why: str) -> None:
    with pytest.raises(UserError) as caught, readable("a.npz", ".npz", remedy="save it anew"):
        raise error
    assert str(caught.value).startswith("cannot read .npz a.npz (")
    assert why in str(caught.value)
    assert str(caught.value).endswith("): save it anew")
    assert "\n" not in str(caught.value)


def test_what_is_explained_already_is_left_as_it_is() -> None:
    with pytest.raises(UserError, match=r"^b is cut$"), readable("a", "the image"):
        raise UserError("b is cut")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_no_file_s_fault_passes(error: type[BaseException]) -> None:
    with pytest.raises(error), readable("a", "the image"):
        raise error


@pytest.mark.parametrize("error", [FileNotFoundError, IsADirectoryError])
def test_a_file_that_is_not_there_is_not_to_be_saved_anew(error: type[OSError]) -> None:
    number = {FileNotFoundError: errno.ENOENT, IsADirectoryError: errno.EISDIR}[error]
    with pytest.raises(UserError) as caught, readable("a.npz", ".npz", remedy="save it anew"):
        raise error(number, os.strerror(number))
    assert str(caught.value) == f"cannot read .npz a.npz ({os.strerror(number)})"
