"""What the tests of tracking share: a stage that leaves what stages leave, and offline runs read back."""

import json
import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from workbench.stages.base import Stage
from workbench.stages.runtime import Runtime
from workbench.tracking.record import Record
from workbench.tracking.tracker import Tracker

API_KEY = "0" * 40
BLOCK = 32768
HEADER = 7
TIMEOUT = 120


class Weights(Stage):
    """Stands for given weights: a folder with one file."""

    name: ClassVar[str] = "weights"
    artifact_type: ClassVar[str] = "model"
    seconds_per_effort: ClassVar[float] = 1.0

    source: str

    def shipped(self) -> Path | None:
        return Path(self.source)

    def effort(self) -> float:
        return 0.0

    def work(self, folder: Path, runtime: Runtime) -> None:
        raise AssertionError("given weights are not made")


class Taught(Stage):
    """Leaves a curve, rows and pictures, as training and evaluation do."""

    name: ClassVar[str] = "taught"
    seconds_per_effort: ClassVar[float] = 1.0
    fails: ClassVar[bool] = False
    psnr: ClassVar[tuple[float, float]] = (20.0, 22.0)

    learning_rate: float = 0.5
    split: str = "val"
    weights: Weights | None = None

    def upstream(self) -> tuple[Stage, ...]:
        return () if self.weights is None else (self.weights,)

    def effort(self) -> float:
        return 1.0

    def work(self, folder: Path, runtime: Runtime) -> None:
        (folder / "metrics.csv").write_text("step,train/loss\n2.0,0.75\n4.0,0.25\n")
        rows = {
            "image_id": [7, 2**60 + 1],
            "psnr": self.psnr,
            "fell_back": [True, False],
            "measurement_set": ["a", "a"],
        }
        pd.DataFrame(rows).to_parquet(folder / "per_image.parquet")
        pictures = {name: np.full((1, 1, 4, 6), level, np.uint8) for name, level in LEVELS.items()}
        save_file({**pictures, "image_id": np.array([2**60 + 1])}, folder / "examples.safetensors")
        if self.fails:
            raise KeyboardInterrupt


LEVELS = {"degraded": 10, "decoded": 20, "restored": 30, "clean": 40}
"""The grey of each picture that `Taught` leaves."""


class Kept(Tracker):
    """Keeps the records in memory."""

    is_recording: ClassVar[bool] = True

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}

    def knows(self, run_id: str) -> bool:
        return run_id in self.records

    def record(self, record: Record) -> None:
        self.records[record.run_id] = record


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and those that it started, unless it has ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def offline_runs(runs: Path) -> list[Path]:
    return sorted((runs / "wandb").glob("offline-run-*"))


def read_run(folder: Path) -> list[Any]:
    """The records of an offline run, in W&B's own messages (a LevelDB log: blocks of 32 KiB, chunks of four kinds)."""
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.glob("*.wandb")
    content = file.read_bytes()
    assert content[:4] == b":W&B"
    records, position, payload = [], HEADER, b""
    while position + HEADER <= len(content):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        payload += content[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):  # whole, or the last of several
            records.append(wandb_internal_pb2.Record.FromString(payload))
            payload = b""
    return records


def all_of(records: list[Any], kind: str) -> list[Any]:
    return [getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind]


def only(records: list[Any], kind: str) -> Any:
    (found,) = all_of(records, kind)
    return found


def values(items: Any) -> dict[str, Any]:
    """W&B's updates by name, nested names joined by dots."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def history(records: list[Any]) -> list[dict[str, Any]]:
    return [values(row.item) for row in all_of(records, "history")]


def summary(records: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for update in all_of(records, "summary"):
        found |= values(update.update)
    return found
