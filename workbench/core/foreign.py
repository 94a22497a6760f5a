"""Reading other people's files: any problem becomes one line that names the file."""

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
    pickle.PickleError,  # from torch, if a file would run code
)
"""What Python, numpy, Pillow, tifffile and torch raise on damaged or hostile files and on interrupted downloads."""
LONGEST_REASON = 200
NOT_READ = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}
"""Errors that are not the file's fault: advice on how to save it would not help."""


@contextmanager
def readable(path: Path | str, what: str, *more: type[Exception], remedy: str = "") -> Iterator[None]:
    """Turn the errors of a reader of foreign files into one line: "cannot read WHAT PATH (reason): remedy".

    Args:
        path: the file.
        what: what the file should be, such as "the image".
        more: additional exceptions of the reader.
        remedy: what the user can do.

    Raises:
        UserError: in place of the exceptions in FOREIGN; a UserError from inside passes unchanged.
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
    """The message of an exception, as part of one line."""
    match error:
        case MemoryError():
            return "it does not fit into memory"
        case RecursionError():
            return "it is nested too deeply"
        case UnicodeError():
            return "it is not UTF-8 text"
        case OSError(strerror=str(text)):
            return text
    words = " ".join(str(error).split())
    if not words or isinstance(error, LookupError | AttributeError | AssertionError | TypeError):
        return "it is damaged"
    return words if len(words) <= LONGEST_REASON else f"{words[:LONGEST_REASON]} ..."
