"""Reading files that somebody else made: whatever is wrong with one, the user gets one line that names it."""

import errno
import lzma
import pickle
import struct
import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from workbench.core.config import UserError

FOREIGN: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,  # with UnicodeDecodeError and json's
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,  # with NotImplementedError and RecursionError
    MemoryError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    tarfile.TarError,
    HTTPException,
    pickle.PickleError,  # torch's, where a file would have code run
)
"""What Python, numpy, Pillow, tifffile and torch raise on damaged or hostile files, and downloads that break off."""
LONGEST_REASON = 200
NOT_READ = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}
"""No fault of what the file holds: how to save it is beside the point."""


@contextmanager
def readable(path: Path | str, what: str, *more: type[Exception], remedy: str = "") -> Iterator[None]:
    """Turns what a reader of foreign files raises into one line: "cannot read WHAT PATH (reason): remedy".

    Args:
        path: the file.
        what: what it is taken for, such as "the image".
        more: exceptions of the reader's own.
        remedy: what the user can do.

    Raises:
        UserError: in place of the closed list FOREIGN; a UserError from inside passes unchanged.
    """
    try:
        yield
    except UserError:
        raise
    except (*FOREIGN, *more) as error:
        is_there = not (isinstance(error, OSError) and error.errno in NOT_READ)
        after = f": {remedy}" if remedy and is_there else ""
        raise UserError(f"cannot read {what} {path} ({reason(error)}){after}") from None


def reason(error: BaseException) -> str:
    """What an exception says, as part of one line."""
    match error:
        case MemoryError():
            return "it does not fit into memory"
        case RecursionError():
            return "it is nested too deeply"
        case UnicodeError():
            return "it is no text in UTF-8"
        case OSError(strerror=str(text)):
            return text
    words = " ".join(str(error).split())
    if not words or isinstance(error, LookupError | AttributeError | AssertionError | TypeError):
        return "it is damaged"
    return words if len(words) <= LONGEST_REASON else f"{words[:LONGEST_REASON]} ..."
