"""Check which files the upload of an offline run would read: a run in a shared folder may name any file.

W&B stores a run as messages in a LevelDB log: blocks of 32 KiB, and chunks of four kinds with a header of 7 bytes.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from workbench.tracking.inside import OutsideError, is_recordable

MAGIC, BLOCK, HEADER = b":W&B", 32768, 7
WHOLE, LAST = 1, 4
"""The kinds of chunks that end a message."""


def refuse_foreign_files(run: Path, runs: Path) -> None:
    """Reject an offline run whose upload would read files outside the runs folder and the zoo.

    Raises:
        OutsideError: if it would, or if that cannot be determined.
        OSError: if it cannot be read.
    """
    files, logs, wandb = run.resolve() / "files", [*run.glob("*.wandb")], (runs / "wandb").resolve()
    if links := [path for path in (files, *files.rglob("*"), *logs) if path.is_symlink()]:
        raise OutsideError(f"{links[0]} is a link")
    for log in logs:
        for message in _messages(log):
            for name in (item.path for item in message.files.files):
                if not (files / name).resolve().is_relative_to(files):
                    raise OutsideError(f"{log} names {name[:200]!r}, which lies outside {files}")
            for name in _artifact_files(message):
                path = Path(name).resolve()
                if not is_recordable(runs, path) and not path.is_relative_to(wandb):
                    raise OutsideError(f"{log} names {name[:200]!r}, which lies outside the runs folder and the zoo")


def _artifact_files(message: Any) -> Iterator[str]:
    """The files of the artifacts in a message of any kind."""
    for manifest in (message.artifact.manifest, message.request.log_artifact.artifact.manifest):
        names = [manifest.manifest_file_path, *(entry.local_path for entry in manifest.contents)]
        yield from (name for name in names if name)


def _messages(log: Path) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    content = log.read_bytes()
    if content[: len(MAGIC)] != MAGIC:
        raise OutsideError(f"{log} is not a W&B log")
    position, payload = HEADER, b""
    while position + HEADER <= len(content):
        if (left := BLOCK - position % BLOCK) < HEADER:  # the end of a block without room for a header is padding
            position += left
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        payload += content[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (WHOLE, LAST):
            try:
                yield Record.FromString(payload)
            except DecodeError:
                raise OutsideError(f"{log} cannot be read") from None
            payload = b""
