"""What a restoration has written so far, so that the same command goes on after an interruption.

A file of lines in the output folder, removed at the end: the settings, then an entry for each output just before it
appears under its name. So a file that the journal does not know, or whose content differs, is somebody else's.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

JOURNAL = "restored.unfinished.jsonl"


@dataclass
class Journal:
    """The journal of an output folder.

    Attributes:
        path: its file.
        settings: digest of what all images depend on.
        entries: by image: `key`, a digest of what else it depends on; `row`, that of the table.
        digests: by file name, of every content that it had.
    """

    path: Path
    settings: str
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    digests: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The journal in a folder; None if there is none. Lines that a killed process left incomplete are left out."""
        path = folder / JOURNAL
        if not path.is_file() or path.is_symlink():
            return None
        found = cls(path, "")
        for line in path.read_bytes().splitlines():
            try:
                told = json.loads(line)
                found.settings = str(told.get("settings", found.settings))
                if "file" in told:
                    found._take(told["file"], told["sha256"], told["entries"])
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
        return found

    def begin(self) -> None:
        """Write the settings, unless the file is there."""
        if not self.path.is_file():
            self._append({"settings": self.settings})

    def add(self, file: str, partial: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
        """Note a file that is about to get its name.

        Args:
            file: its name.
            partial: its content.
            entries: of the images in it.
        """
        sha256 = _digest(partial)
        self._append({"file": file, "sha256": sha256, "entries": entries})
        self._take(file, sha256, entries)

    def is_own(self, path: Path) -> bool:
        """Whether a file is as it was noted."""
        return path.is_file() and not path.is_symlink() and _digest(path) in self.digests.get(path.name, ())

    def remove(self) -> None:
        """The restoration has ended."""
        self.path.unlink(missing_ok=True)

    def _take(self, file: str, sha256: str, entries: Mapping[str, Mapping[str, Any]]) -> None:
        self.digests.setdefault(file, set()).add(sha256)
        self.entries |= {name: {"key": entry["key"], "row": dict(entry["row"])} for name, entry in entries.items()}

    def _append(self, told: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(told)}\n")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
