"""What a study writes down for W&B, and the marks that say what has become of it.

runs/wandb-records/<run id>.json     a record, written by the study
runs/wandb-records/<run id>.logged   its mark, written by the process that talks to W&B
"""

import json
import os
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import Field

from workbench.core.config import Config, UserError, digest
from workbench.core.files import write_whole
from workbench.tracking.inside import folder_of
from workbench.tracking.turn import RECORDS

MARK = ".logged"


LARGEST = 32 * 2**20
"""Bytes of a record; the largest study's has some hundred thousand."""

LONGEST = 500
"""Characters of a line that is said of what others have written."""

Identity = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")]
"""What W&B takes for an artifact's name."""
Versioned = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}:[0-9a-f]{12}$")]


class Table(Config):
    """A small table, as it is shown."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


class Record(Config):
    """One W&B run: what a finished stage or study is called, what it used and where its files are.

    Attributes:
        run_id: the identity of the stage or study, and so of its artifact.
        job_type: the stage's name, or "study".
        config: what the identity is made of.
        inputs: artifacts that it used, each "name:alias", the name of a stage and its identity.
        folder: where its files are, relative to the runs folder or absolute: see `inside`.
        files: what its artifact holds, relative to `folder`; () where they may not be recorded.
        contents: names what they hold, so that a stage that was made again is told from one that is cached.
        artifact: the artifact's name; its version goes by the alias `run_id`.
        artifact_type: "model", "results" and so on.
        table: a table to show.
        picture: an image to show, relative to `folder`.
        project, group, tags: where W&B puts the run.
    """

    run_id: Identity
    job_type: Name
    name: str
    config: dict[str, Any]
    inputs: tuple[Versioned, ...] = ()
    folder: str
    files: tuple[str, ...] = ()
    contents: str = ""
    artifact: Name
    artifact_type: Name
    table: Table | None = None
    picture: str | None = None
    project: str = ""
    group: str = ""
    tags: tuple[str, ...] = ()


class Mark(Config):
    """What has become of a record.

    Attributes:
        record: the identity of the record as it was then.
        run: the folder of the offline run, relative to the runs folder.
        uploaded: whether the run is at W&B, with its inputs.
    """

    record: str
    run: str
    uploaded: bool = False


class Records:
    """The records below a runs folder.

    Attributes:
        runs: the runs folder.
        log: the file for what the process that talks to W&B has to say.
        problem: the file for why runs were not uploaded, in one line, which the study says when it ends.
        looked: the file that says which records there were when a process had last made runs of them.
    """

    def __init__(self, runs: Path) -> None:
        self.runs, self.folder = runs, runs / RECORDS
        self.log, self.problem = self.folder / "log.txt", self.folder / "problem.txt"
        self.looked = self.folder / ".looked"

    def open_log(self) -> BinaryIO:
        """The log, to be appended to: never another file that it is a link to, nor a pipe, which would be waited for.

        Raises:
            OSError: if it cannot be opened.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        return os.fdopen(os.open(self.log, flags, 0o666), "ab")

    def has(self, run_id: str) -> bool:
        """Whether there is a record of this run."""
        return self._path(run_id).is_file()

    def holds(self, record: Record) -> bool:
        """Whether this very record is kept."""
        path = self._path(record.run_id)
        return path.is_file() and path.read_bytes() == _text(record).encode()  # damaged, it may be no text

    def write(self, record: Record) -> None:
        """Keep a record, in place of an earlier one of the same run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._path(record.run_id), _text(record))

    def paths(self) -> list[Path]:
        """The files of all records, in the order in which they were written."""
        # a stage leaves its record after those upstream, so a run is made after those of its inputs
        return sorted(self._found(), key=lambda path: path.stat().st_mtime_ns)

    def written(self) -> str:
        """Says which records there are, and changes with every one that is written."""
        # the inode, too: a record written twice within the clock's resolution is another file of the same time
        found = ((path.name, path.stat()) for path in sorted(self._found()))
        return digest([[name, status.st_mtime_ns, status.st_ino] for name, status in found])

    def are_new(self) -> bool:
        """Whether there are records that no process has looked at."""
        looked = self.looked.read_bytes() if self.looked.is_file() else b""
        return bool(self.paths()) and self.written().encode() != looked

    def why_not_uploaded(self) -> str:
        """Why runs were not uploaded, in one line; "": nothing speaks against it."""
        if not self.problem.is_file():
            return ""
        with self.problem.open(encoding="utf-8", errors="replace") as file:
            return file.readline(LONGEST).strip()

    def read(self, path: Path) -> Record:
        """A record.

        Raises:
            OSError, ValueError: if it cannot be read, is of another version of the workbench, or not this file's.
        """
        record = Record.parse(_tree(path))
        if record.run_id != path.stem:
            raise UserError(f"it is of run {record.run_id}")
        return record

    def can_be_made(self, run_id: str) -> bool:
        """Whether a run is made, or what it is made of is still there."""
        if not self.has(run_id):
            return False
        try:
            record = self.read(self._path(run_id))
            return self.mark_of(record) is not None or folder_of(self.runs, record.folder).is_dir()
        except (OSError, ValueError):
            return False

    def mark_of(self, record: Record) -> Mark | None:
        """The mark of a run, of this record or an earlier one; None: it has none, or one that cannot be read."""
        path = self._path(record.run_id, MARK)
        try:
            return Mark.parse(_tree(path))
        except (OSError, ValueError):
            return None

    def mark(self, record: Record, run: Path, *, uploaded: bool = False) -> None:
        """Say that the record is the offline run in this folder, and whether that is uploaded."""
        mark = Mark(record=record.identity, run=str(run.relative_to(self.runs)), uploaded=uploaded)
        write_whole(self._path(record.run_id, MARK), mark.model_dump_json())

    def _found(self) -> list[Path]:
        """Files alone: a link that leads nowhere cannot be looked at, and a pipe would be waited for."""
        return [path for path in self.folder.glob("*.json") if path.is_file()]

    def _path(self, run_id: str, suffix: str = ".json") -> Path:
        return self.folder / f"{run_id}{suffix}"


def _tree(path: Path) -> dict[str, Any]:
    """The JSON object in a file that anybody may have written.

    Raises:
        OSError, ValueError: if it holds none.
    """
    if not path.is_file():
        raise UserError("it is not a file")
    if path.stat().st_size > LARGEST:
        raise UserError(f"it is larger than {LARGEST // 2**20} MiB")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise UserError("it is nested too deeply") from None
    if not isinstance(tree, dict):
        raise UserError("it holds no JSON object")
    return tree


def _text(record: Record) -> str:
    return record.model_dump_json(indent=2)
