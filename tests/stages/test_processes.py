"""Several processes make what one would make, whatever happens to some of them."""

import os
import signal
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from filelock import FileLock
from instant_stages import Heard, Kinded, Piece, endless, lives
from wandb_runs import Kept, wait_until

from workbench.core.config import UserError
from workbench.stages import cache
from workbench.stages.base import Stage
from workbench.stages.execute import processes
from workbench.stages.execute.processes import ensure_in_processes, ensure_quickest, quickest_number
from workbench.stages.provenance import read_provenance
from workbench.stages.runtime import Runtime

FIRST = Piece(number=1)
LEFT, RIGHT = (Piece(number=number, above=(FIRST,), action="meet") for number in (2, 3))
LAST = Kinded(number=4, above=(LEFT, RIGHT))


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def runtime(tmp_path: Path, heard: Heard) -> Runtime:
    return Runtime(tmp_path / "runs", progress=heard, tracker=Kept())


def ensure(stages: list[Piece], runtime: Runtime, **options: Any) -> None:
    ensure_in_processes(stages, runtime, **{"num_processes": 2, **options})


def test_each_stage_is_made_once_and_independent_ones_at_once(runtime: Runtime, heard: Heard) -> None:
    updates: list[tuple[Any, ...]] = []
    ensure([LAST, LEFT, LAST], runtime, update=lambda *update: updates.append(update))
    made = {piece.number: read_provenance(piece.folder(runtime)) for piece in (FIRST, LEFT, RIGHT, LAST)}
    assert made[2]["process"] != made[3]["process"], "they met"
    assert os.getpid() not in {record["process"] for record in made.values()}
    assert sorted(line for line in heard.lines if "working" in line) == sorted(
        f"{word} working: piece {number}" for word in ("begin", "end") for number in (1, 2, 3, 4)
    )
    assert heard.updates == [(1, 2, "half", 0.0)] * 4
    assert updates[0] == (0, 3)
    assert (1, 3) in {update[:2] for update in updates}
    assert updates[-1][:2] == (3, 3)
    written = LAST.folder(runtime).stat()
    ensure([LAST], runtime)
    assert LAST.folder(runtime).stat() == written
    assert sum("working" in line for line in heard.lines) == 8, "what is there is not made again"


@pytest.mark.parametrize(("action", "error"), [("raise", RuntimeError), ("refuse", UserError)])
def test_where_one_fails_the_others_go_on_and_its_error_is_raised_in_the_end(
    action: str, error: type[Exception], runtime: Runtime, heard: Heard
) -> None:
    failing = Piece(number=5, action=action)
    below = Piece(number=6, above=(failing,))
    with pytest.raises(error, match=r"^piece 5 (on purpose|is refused)$"):
        ensure([below, LAST], runtime)
    assert LAST.is_cached(runtime)
    assert not below.is_cached(runtime)
    assert "begin working: piece 6" not in heard.lines
    assert "failed, the others continue: piece 5" in heard.lines


def test_a_process_that_is_killed_is_one_line(runtime: Runtime) -> None:
    with pytest.raises(UserError, match=r"killed, perhaps because memory ran out: .* fewer --jobs"):
        ensure([Piece(action="die")], runtime)


def test_what_processes_make_is_recorded_here(runtime: Runtime) -> None:
    ensure([Piece(number=7, action="inner", above=(FIRST,))], runtime)
    assert isinstance(runtime.tracker, Kept)
    assert {record.name.partition(" ")[0] for record in runtime.tracker.records.values()} == {"piece"}
    assert {record.name.split()[1] for record in runtime.tracker.records.values()} == {"1", "7", "8"}


def test_threads_are_shared_out(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    piece = Piece(action="threads")
    ensure([piece], runtime)
    assert (piece.folder(runtime) / "threads").read_text() == "2"


def test_what_another_command_works_on_is_left_to_it_while_there_is_other_work(runtime: Runtime, heard: Heard) -> None:
    others = Piece(number=8)
    free = [Piece(number=number) for number in (9, 10, 11)]
    target = others.folder(runtime)
    target.parent.mkdir(parents=True)
    work = threading.Thread(target=ensure, args=([others, *free], runtime), kwargs={"num_processes": 1})
    with FileLock(target.with_suffix(".lock")):
        work.start()
        wait_until(lambda: all(piece.is_cached(runtime) for piece in free))
        assert not others.is_cached(runtime)
    work.join(timeout=60)
    assert others.is_cached(runtime)
    assert heard.lines.count("waiting for another process: piece 8") == 1


def test_what_is_damaged_is_made_again_when_asked(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_checked", set())
    ensure([LAST], runtime)
    config = LAST.folder(runtime) / "config.json"
    config.write_text("{}")
    monkeypatch.setattr(cache, "_checked", set())
    with pytest.raises(UserError, match="damaged"):
        ensure([LAST], runtime)
    ensure([LAST], Runtime(runtime.root, rerun=True))
    assert config.read_text() != "{}"
    assert read_provenance(LAST.folder(runtime))["process"] != os.getpid()


class Timing(Piece):
    name: ClassVar[str] = "timing"
    is_timing: ClassVar[bool] = True


class Large(Piece):
    name: ClassVar[str] = "large"

    def relative_cost(self) -> float:
        return 100.0


LONG = [Piece(number=number, seconds=100) for number in (20, 21, 22)]


@pytest.mark.parametrize(
    ("missing", "device", "number"),
    [
        (LONG, "cpu", 3),
        (LONG[:1], "cpu", 1),
        ([Piece(number=number) for number in range(9)], "cpu", 1),
        (LONG, "cuda", 1),
        ([*LONG, Timing(seconds=100)], "cpu", 1),
        ([*LONG, Large(seconds=100)], "cpu", 1),
        ([], "cpu", 1),
    ],
    ids=["long", "one", "short", "gpu", "a timing", "large networks", "nothing"],
)
def test_small_networks_get_a_process_for_each_thread(
    missing: list[Stage], device: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    assert quickest_number(missing, device) == number


def test_no_more_processes_than_threads_or_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert quickest_number(LONG, "cpu") == 2
    monkeypatch.setattr(processes, "MEMORY", 2**60)
    assert quickest_number(LONG, "cpu") == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_the_quickest_way_makes_what_is_missing(
    threads: int, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    ensure_quickest(LONG[:2], runtime)
    made = {read_provenance(piece.folder(runtime))["process"] for piece in LONG[:2]}
    assert (made == {os.getpid()}) == (threads == 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_its_processes_end_with_it(number: signal.Signals, tmp_path: Path) -> None:
    process, workers = endless("processes", tmp_path)
    if number == signal.SIGINT:  # as a terminal does
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    wait_until(lambda: not any(map(lives, workers)))
    if number == signal.SIGINT:
        assert said == "stopped\n"
