"""What a study writes down for W&B, and the marks that say what has become of it.

runs/wandb-records/<run id>.json     a record, written by the study
runs/wandb-records/<run id>.logged   its mark, written by the process that talks to W&B
"""

import json
from pathlib import Path
from typing import Any

from workbench.config import Config
from workbench.files import write_whole

RECORDS = "wandb-records"
MARK = ".logged"


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
        folder: where its files are, relative to the runs folder or absolute.
        files: what its artifact holds, relative to `folder`.
        contents: names what they hold, so that a stage that was made again is told from one that is cached.
        artifact: the artifact's name; its version goes by the alias `run_id`.
        artifact_type: "model", "results" and so on.
        table: a table to show.
        picture: an image to show, relative to `folder`.
        project, group, tags: where W&B puts the run.
    """

    run_id: str
    job_type: str
    name: str
    config: dict[str, Any]
    inputs: tuple[str, ...] = ()
    folder: str
    files: tuple[str, ...] = ()
    contents: str = ""
    artifact: str
    artifact_type: str
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
    """

    def __init__(self, runs: Path) -> None:
        self.runs, self.folder = runs, runs / RECORDS
        self.log, self.problem = self.folder / "log.txt", self.folder / "problem.txt"

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
        return sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)

    def read(self, path: Path) -> Record:
        """A record.

        Raises:
            ValueError: if it cannot be read, or is of another version of the workbench.
        """
        return Record.parse(json.loads(path.read_text()))

    def can_be_made(self, run_id: str) -> bool:
        """Whether a run is made, or what it is made of is still there."""
        if not self.has(run_id):
            return False
        record = self.read(self._path(run_id))
        return self.mark_of(record) is not None or (self.runs / record.folder).is_dir()

    def mark_of(self, record: Record) -> Mark | None:
        """The mark of a run, of this record or an earlier one; None: it has none, or one that cannot be read."""
        path = self._path(record.run_id, MARK)
        try:
            return Mark.parse(json.loads(path.read_text()))
        except (FileNotFoundError, ValueError):
            return None

    def mark(self, record: Record, run: Path, *, uploaded: bool = False) -> None:
        """Say that the record is the offline run in this folder, and whether that is uploaded."""
        mark = Mark(record=record.identity, run=str(run.relative_to(self.runs)), uploaded=uploaded)
        write_whole(self._path(record.run_id, MARK), mark.model_dump_json())

    def _path(self, run_id: str, suffix: str = ".json") -> Path:
        return self.folder / f"{run_id}{suffix}"


def _text(record: Record) -> str:
    return record.model_dump_json(indent=2)
