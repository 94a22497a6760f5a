"""What a study records for W&B, and the marks that track the state of each record.

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
"""Maximum size of a record in bytes; the largest study's has some hundred thousand."""

LONGEST = 500
"""Maximum length of a message about other people's files."""

Identity = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")]
"""W&B's pattern of artifact names."""
Versioned = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}:[0-9a-f]{12}$")]


class Table(Config):
    """A small table, as displayed."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


class Record(Config):
    """One W&B run: the name of a finished stage or study, its inputs and the location of its files.

    Attributes:
        run_id: identity of the stage or study, and thus of its artifact.
        job_type: the stage's name, or "study".
        config: content of the identity.
        inputs: artifacts used, each "name:alias", the name of a stage and its identity.
        folder: location of its files, relative to the runs folder or absolute: see `inside`.
        files: files in its artifact, relative to `folder`; () if they may not be recorded.
        contents: identifies their contents, to distinguish a recomputed stage from a cached one.
        artifact: the artifact's name; its version has the alias `run_id`.
        artifact_type: "model", "results" and so on.
        table: a table to display.
        picture: an image to display, relative to `folder`.
        project, group, tags: project, group and tags of the run in W&B.
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
    """The state of a record.

    Attributes:
        record: the identity of the record at that time.
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
        log: log file of the process that talks to W&B.
        problem: file with the reason why runs were not uploaded, in one line, printed when the study ends.
        looked: file with the records that existed when a process last created runs from them.
    """

    def __init__(self, runs: Path) -> None:
        self.runs, self.folder = runs, runs / RECORDS
        self.log, self.problem = self.folder / "log.txt", self.folder / "problem.txt"
        self.looked = self.folder / ".looked"

    def open_log(self) -> BinaryIO:
        """Open the log for appending; never another file through a link, nor a pipe, which would block.

        Raises:
            OSError: if it cannot be opened.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        return os.fdopen(os.open(self.log, flags, 0o666), "ab")

    def has(self, run_id: str) -> bool:
        """Whether there is a record of this run."""
        return self._path(run_id).is_file()

    def holds(self, record: Record) -> bool:
        """Whether exactly this record is stored."""
        path = self._path(record.run_id)
        return path.is_file() and path.read_bytes() == _text(record).encode()  # a damaged file may not be text

    def write(self, record: Record) -> None:
        """Store a record, replacing an earlier one of the same run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._path(record.run_id), _text(record))

    def paths(self) -> list[Path]:
        """The files of all records, in the order in which they were written."""
        # a stage writes its record after those upstream, so a run is created after those of its inputs
        return sorted(self._found(), key=lambda path: path.stat().st_mtime_ns)

    def written(self) -> str:
        """Identifies the set of records; changes with every record that is written."""
        # includes the inode: a record rewritten within the clock's resolution has the same time
        found = ((path.name, path.stat()) for path in sorted(self._found()))
        return digest([[name, status.st_mtime_ns, status.st_ino] for name, status in found])

    def are_new(self) -> bool:
        """Whether there are records that no process has looked at."""
        looked = self.looked.read_bytes() if self.looked.is_file() else b""
        return bool(self.paths()) and self.written().encode() != looked

    def why_not_uploaded(self) -> str:
        """Why runs were not uploaded, in one line; "" if nothing failed."""
        if not self.problem.is_file():
            return ""
        with self.problem.open(encoding="utf-8", errors="replace") as file:
            return file.readline(LONGEST).strip()

    def read(self, path: Path) -> Record:
        """A record.

        Raises:
            OSError, ValueError: if it cannot be read, is from another version of the workbench, or of another run.
        """
        record = Record.parse(_tree(path))
        if record.run_id != path.stem:
            raise UserError(f"it is of run {record.run_id}")
        return record

    def can_be_made(self, run_id: str) -> bool:
        """Whether a run exists, or its files still do."""
        if not self.has(run_id):
            return False
        try:
            record = self.read(self._path(run_id))
            return self.mark_of(record) is not None or folder_of(self.runs, record.folder).is_dir()
        except (OSError, ValueError):
            return False

    def mark_of(self, record: Record) -> Mark | None:
        """The mark of a run, of this record or an earlier one; None if there is none, or it cannot be read."""
        path = self._path(record.run_id, MARK)
        try:
            return Mark.parse(_tree(path))
        except (OSError, ValueError):
            return None

    def mark(self, record: Record, run: Path, *, uploaded: bool = False) -> None:
        """Mark the record as the offline run in this folder, and whether that is uploaded."""
        mark = Mark(record=record.identity, run=str(run.relative_to(self.runs)), uploaded=uploaded)
        write_whole(self._path(record.run_id, MARK), mark.model_dump_json())

    def _found(self) -> list[Path]:
        """Regular files only: a broken link cannot be read, and a pipe would block."""
        return [path for path in self.folder.glob("*.json") if path.is_file()]

    def _path(self, run_id: str, suffix: str = ".json") -> Path:
        return self.folder / f"{run_id}{suffix}"


def _tree(path: Path) -> dict[str, Any]:
    """The JSON object in a file that anybody may have written.

    Raises:
        OSError, ValueError: if it has none.
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
        raise UserError("it is not a JSON object")
    return tree


def _text(record: Record) -> str:
    return record.model_dump_json(indent=2)
