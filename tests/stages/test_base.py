import errno
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pydantic import Field

from workbench import __version__
from workbench.core.config import NOT_IDENTITY, UserError
from workbench.stages import base, cache
from workbench.stages.base import Stage
from workbench.stages.cache import damage, unfinished
from workbench.stages.provenance import PROVENANCE, read_provenance
from workbench.stages.runtime import Runtime, place


class Work(Stage):
    """Writes its value; what it was given before, it keeps."""

    name: ClassVar[str] = "work"
    version: ClassVar[int] = 1
    seconds_per_effort: ClassVar[float] = 1.0
    log: ClassVar[list[str]] = []
    fails: ClassVar[bool] = False

    value: int = 1
    threads: int = Field(1, json_schema_extra=NOT_IDENTITY)

    def effort(self) -> float:
        return 3.0

    def work(self, folder: Path, runtime: Runtime) -> None:
        self.log.append(self.name)
        seen = folder / "begun"
        seen.write_text(seen.read_text() + "again " if seen.exists() else "once ")
        if self.fails:
            raise RuntimeError("on purpose")
        (folder / "deep").mkdir(exist_ok=True)
        (folder / "deep" / "value.txt").write_text(str(self.value))


class Downstream(Work):
    name: ClassVar[str] = "downstream"
    version: ClassVar[int] = 1
    offset: int = 0

    def upstream(self) -> tuple[Stage, ...]:
        return (Work(value=self.value),)


class Below(Downstream):
    name: ClassVar[str] = "below"
    version: ClassVar[int] = 1

    def upstream(self) -> tuple[Stage, ...]:
        return (Downstream(value=self.value), Work(value=self.value))


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process: nothing was checked yet, nothing done."""
    monkeypatch.setattr(cache, "_checked", set())
    monkeypatch.setattr(Work, "log", [])


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path / "runs")


def stage_folders(runtime: Runtime) -> list[str]:
    return sorted(str(p.relative_to(runtime.root / "stages")) for p in runtime.root.glob("stages/*/*") if p.is_dir())


@pytest.mark.parametrize("changed", [Work, Downstream, Below])
def test_a_new_version_changes_its_own_identity_and_those_downstream(
    changed: type[Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = (Work(), Downstream(), Below())
    before = [stage.identity for stage in chain]
    monkeypatch.setattr(changed, "version", 2)
    after = [stage.identity for stage in chain]
    first = [type(stage) for stage in chain].index(changed)
    assert after[:first] == before[:first]
    assert all(new != old for new, old in zip(after[first:], before[first:], strict=True))


def test_identity_holds_fields_and_upstream_and_nothing_else() -> None:
    assert Work(value=2).identity != Work().identity
    assert Work(threads=8).identity == Work().identity
    assert Downstream(value=2).identity != Downstream().identity
    assert Downstream(offset=1).upstream() == Downstream().upstream()
    identities = {Work().identity, Downstream().identity, Below().identity}
    assert len(identities) == 3, "the stage's name is part of its identity"


def test_runtime_does_not_matter(runtime: Runtime) -> None:
    folder = Work().ensure(runtime)
    other = Runtime(runtime.root, device="meta", batch_size=1)
    assert Work(threads=3).ensure(other) == folder
    assert Work.log == ["work"]


def test_everything_upstream_is_done_once_and_found_again(runtime: Runtime) -> None:
    assert [type(stage) for stage in Below().missing(runtime)] == [Work, Downstream, Below]
    folder = Below().ensure(runtime)
    assert Work.log == ["work", "downstream", "below"]
    assert (folder / "deep" / "value.txt").read_text() == "1"
    assert Below().missing(runtime) == []
    assert Below().is_cached(runtime)
    Below().ensure(runtime)
    assert len(Work.log) == 3
    Below(offset=1).ensure(runtime)
    assert Work.log[3:] == ["below"]


def test_failing_work_leaves_no_finished_folder_and_goes_on_from_what_it_left(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Work, "fails", True)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="on purpose"):
            Work().ensure(runtime)
        assert not Work().is_cached(runtime)
        assert stage_folders(runtime) == [f"work/{Work().identity}.partial"]
    monkeypatch.setattr(Work, "fails", False)
    folder = Work().ensure(runtime)
    assert (folder / "begun").read_text() == "once again again "
    assert stage_folders(runtime) == [f"work/{Work().identity}"]
    assert read_provenance(folder)["resumed"] is True


def test_after_a_kill_before_the_last_rename_only_the_rename_is_left_to_do(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: Path, target: Path) -> Path:
        if folder.is_dir():
            raise KeyboardInterrupt
        return original(folder, target)

    original = Path.replace
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            Work().ensure(runtime)
    folder = Work().ensure(runtime)
    assert damage(folder) is None
    assert (folder / "begun").read_text() == "once "
    assert Work.log == ["work"]


def test_unfinished_work_with_a_provenance_is_done_again(runtime: Runtime) -> None:
    """A file may have been cut since it was written: by a power failure, or by hand."""
    folder = Work().ensure(runtime)
    partial = folder.replace(folder.with_suffix(".partial"))
    cut(partial / "deep" / "value.txt")
    assert (Work().ensure(runtime) / "deep" / "value.txt").read_text() == "1"
    assert Work.log == ["work", "work"]


def test_what_only_a_killed_run_needs_stays_until_the_stage_is_finished(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(self: Work, folder: Path, runtime: Runtime) -> None:
        for name in ("value.txt", "last.ckpt", "metrics.csv.partial"):
            (folder / name).touch()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Work, "work", work)
    with monkeypatch.context() as patch:
        patch.setattr(base, "checksums", full)
        with pytest.raises(OSError, match="No space"):
            Work().ensure(runtime)
    (partial,) = unfinished(runtime.root)
    assert {path.name for path in partial.iterdir()} == {"config.json", "value.txt", "last.ckpt", "metrics.csv.partial"}
    folder = Work().ensure(runtime)
    assert {path.name for path in folder.iterdir()} == {"config.json", "value.txt", PROVENANCE}
    assert set(read_provenance(folder)["files"]) == {"config.json", "value.txt"}
    assert unfinished(runtime.root) == []


def test_an_outdated_artifact_stays_until_there_is_a_better_one(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Work().ensure(runtime)
    monkeypatch.setattr(Work, "outdated", lambda self, folder: "it is old")
    monkeypatch.setattr(Work, "fails", True)
    with pytest.raises(RuntimeError, match="on purpose"):
        Work().ensure(Runtime(runtime.root, rerun=True))
    assert (folder / "deep" / "value.txt").read_text() == "1"
    monkeypatch.setattr(Work, "fails", False)
    Work().ensure(Runtime(runtime.root, rerun=True))
    assert Work.log == ["work"] * 3
    assert stage_folders(runtime) == [f"work/{Work().identity}"]


def test_provenance_says_how_it_was_made(runtime: Runtime) -> None:
    folder = Downstream(value=5).ensure(runtime)
    record = read_provenance(folder)
    assert {"commit", "dirty", "versions", "device", "threads", "wall_seconds", "effort"} <= set(record)
    assert record["identity"] == Downstream(value=5).identity == folder.name
    assert record["canonical"]["upstream"] == [Work(value=5).identity]
    assert record["versions"]["workbench"] == __version__
    assert record["resumed"] is False
    assert set(record["files"]) == {"config.json", "begun", "deep/value.txt"}
    assert Downstream.parse(json.loads((folder / "config.json").read_text())) == Downstream(value=5)


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"!")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [change, cut, Path.unlink])
@pytest.mark.parametrize("name", ["deep/value.txt", "config.json", PROVENANCE])
def test_a_damaged_file_is_named_and_computed_again_only_when_asked(
    runtime: Runtime, name: str, harm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Work().ensure(runtime)
    Work().ensure(runtime)
    harm(folder / name)
    monkeypatch.setattr(cache, "_checked", set())
    with pytest.raises(UserError, match=f"(?s){folder}.*{name}.*--rerun"):
        Work().ensure(runtime)
    with pytest.raises(UserError, match=name):
        Downstream().ensure(runtime)
    again = Runtime(runtime.root, rerun=True)
    assert Work().ensure(again) == folder
    assert Work.log == ["work", "work"]
    assert damage(folder) is None
    Work().ensure(again)
    assert len(Work.log) == 2, "a sound entry is not computed again"


def test_rerun_leaves_sound_entries_alone(runtime: Runtime) -> None:
    folder = Below().ensure(runtime)
    written = (folder / PROVENANCE).stat().st_mtime_ns
    Below().ensure(Runtime(runtime.root, rerun=True))
    assert len(Work.log) == 3
    assert (folder / PROVENANCE).stat().st_mtime_ns == written


RACE = """
    import sys, time
    from pathlib import Path
    from typing import ClassVar
    from workbench.stages import base
    from workbench.stages.base import Stage
    from workbench.stages.runtime import Runtime

    base.provenance = lambda runtime: {}  # without importing torch

    class Slow(Stage):
        name: ClassVar[str] = "slow"
        seconds_per_effort: ClassVar[float] = 1.0
        def effort(self): return 1.0
        def work(self, folder, runtime):
            with (runtime.root / "log").open("a") as file:
                file.write("done\\n")
            time.sleep(0.3)

    root, others = Path(sys.argv[1]), int(sys.argv[2])
    runtime = Runtime(root)
    (root / f"ready-{sys.argv[3]}").touch()
    while len(list(root.glob("ready-*"))) < others:
        time.sleep(0.01)
    print(Slow().ensure(runtime))
"""


def test_two_processes_at_once_do_a_stage_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(RACE), str(tmp_path), "2"]
    environment = os.environ | {"PYTHONPATH": str(Path(base.__file__).parents[2])}
    processes = [
        subprocess.Popen([*command, str(i)], env=environment, stdout=subprocess.PIPE, text=True) for i in range(2)
    ]
    folders = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert folders[0] == folders[1]
    assert (tmp_path / "log").read_text() == "done\n"


COMPANY = """
    import os, sys, time
    from pathlib import Path
    from typing import ClassVar
    from workbench.stages import base
    from workbench.stages.base import Stage, ensure_all
    from workbench.stages.runtime import Runtime

    base.provenance = lambda runtime: {}  # without importing torch

    class Slow(Stage):
        name: ClassVar[str] = "slow"
        seconds_per_effort: ClassVar[float] = 1.0
        number: int = 0
        below: bool = True
        def effort(self): return 1.0
        def upstream(self): return (Slow(number=self.number // 2, below=False),) if self.below else ()
        def work(self, folder, runtime):
            time.sleep(float(sys.argv[3]))

    root, others = Path(sys.argv[1]), int(sys.argv[2])
    runtime = Runtime(root)
    (root / f"ready-{os.getpid()}").touch()
    while len(list(root.glob("ready-*"))) < others:
        time.sleep(0.01)
    ensure_all([Slow(number=number) for number in range(8)], runtime)
"""
NUM_SLOW = 8 + 4
"""Eight stages, each two of which stand on one."""


def company(root: Path, num_processes: int, seconds: float) -> list["subprocess.Popen[bytes]"]:
    """Processes that work on the same stages, each of which takes so long; they begin when all are ready."""
    command = [sys.executable, "-c", textwrap.dedent(COMPANY), str(root), str(num_processes), str(seconds)]
    environment = os.environ | {"PYTHONPATH": str(Path(base.__file__).parents[2])}
    return [subprocess.Popen(command, env=environment) for _ in range(num_processes)]


def test_four_processes_share_the_work(tmp_path: Path) -> None:
    seconds = 0.5
    processes = company(tmp_path, 4, seconds)
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    made = [read_provenance(folder) for folder in tmp_path.glob("stages/slow/*") if folder.is_dir()]
    assert len(made) == NUM_SLOW
    assert {record["process"] for record in made} == {process.pid for process in processes}
    assert not any(record["resumed"] for record in made)
    span = max(record["started"] + record["wall_seconds"] for record in made) - min(r["started"] for r in made)
    # one process, or four that wait at the same lock, need NUM_SLOW * seconds; four that share, a quarter
    assert span < 0.5 * NUM_SLOW * seconds


def test_the_work_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    (holder,) = company(tmp_path, 1, 3600)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("stages/slow/*.partial")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert unfinished(tmp_path) == [], "somebody is working on it"
    (other,) = company(tmp_path, 1, 0.01)
    # all that the other can do, it does, and waits for the rest
    while len([folder for folder in tmp_path.glob("stages/slow/*/") if folder.suffix == ""]) < NUM_SLOW - 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)
    assert other.poll() is None
    holder.kill()
    holder.wait(timeout=60)
    assert other.wait(timeout=60) == 0
    made = [read_provenance(folder) for folder in tmp_path.glob("stages/slow/*") if folder.is_dir()]
    assert len(made) == NUM_SLOW
    assert [record["process"] for record in made if record["resumed"]] == [other.pid]


@pytest.mark.parametrize("place", ["file", "below a file"])
def test_an_unwritable_runs_folder_is_refused(tmp_path: Path, place: str) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match=r"not writable.*--runs"):
        Runtime(file if place == "file" else file / "runs").require_writable()


def test_a_read_only_runs_folder_is_refused(read_only: Path) -> None:
    with pytest.raises(UserError, match="not writable"):
        Runtime(read_only).require_writable()


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_below_one_is_refused(tmp_path: Path, batch_size: int) -> None:
    with pytest.raises(UserError, match="at least 1"):
        Runtime(tmp_path, batch_size=batch_size)


@pytest.mark.parametrize(("norm", "last"), [(torch.nn.Identity(), True), (torch.nn.GroupNorm(1, 4), False)])
def test_weights_lie_in_the_order_that_is_faster_on_a_cpu(norm: torch.nn.Module, last: bool) -> None:
    placed = place(torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3), norm), "cpu")
    assert placed[0].weight.is_contiguous(memory_format=torch.channels_last) == last
    assert placed[0].weight.is_contiguous() != last


# --- what lies where an artifact belongs


def a_file(path: Path) -> None:
    path.write_bytes(b"in the way")


def a_folder(path: Path) -> None:
    path.mkdir()
    (path / "in the way").touch()


def a_link_to_nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def a_link_to_a_folder(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    elsewhere.mkdir()
    path.symlink_to(elsewhere)


def test_links_in_work_that_was_begun_are_not_written_through(runtime: Runtime, tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("precious")
    folder = Work().folder(runtime)
    partial = folder.with_suffix(".partial")
    (partial / "deep").mkdir(parents=True)
    for path in (partial / "value.txt", partial / "deep" / "value.txt"):
        path.symlink_to(precious)
    os.mkfifo(partial / "last.ckpt")
    assert Work().ensure(runtime) == folder
    assert precious.read_text() == "precious"
    assert not (folder / "value.txt").is_symlink()


THINGS = [a_file, a_folder, a_link_to_nowhere, a_link_to_a_folder]


@pytest.mark.parametrize("thing", THINGS)
def test_something_else_under_an_artifacts_name_is_named_and_replaced_when_asked(runtime: Runtime, thing: Any) -> None:
    folder = Work().folder(runtime)
    folder.parent.mkdir(parents=True)
    thing(folder)
    with pytest.raises(UserError, match=rf"{folder} is damaged: .*--rerun"):
        Work().ensure(runtime)
    assert Work.log == []
    assert Work().ensure(Runtime(runtime.root, rerun=True)) == folder
    assert damage(folder) is None
    assert stage_folders(runtime) == (
        [f"work/{name}" for name in sorted({"elsewhere", folder.name})]
        if thing is a_link_to_a_folder
        else [f"work/{folder.name}"]
    )


@pytest.mark.parametrize("thing", THINGS)
def test_what_an_earlier_rerun_replaced_and_left_is_in_nobodys_way(runtime: Runtime, thing: Any) -> None:
    folder = Work().ensure(runtime)
    thing(folder.with_suffix(".replaced"))
    change(folder / "deep" / "value.txt")
    cache._checked.clear()
    Work().ensure(Runtime(runtime.root, rerun=True))
    assert damage(folder) is None
    assert not os.path.lexists(folder.with_suffix(".replaced"))


@pytest.mark.parametrize("thing", THINGS[:3])
def test_something_else_under_the_name_of_unfinished_work_gives_way_to_it(runtime: Runtime, thing: Any) -> None:
    folder = Work().folder(runtime)
    folder.parent.mkdir(parents=True)
    thing(folder.with_suffix(".partial"))
    Work().ensure(runtime)
    assert damage(folder) is None


def test_after_a_kill_between_the_last_two_renames_nothing_is_done_again(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, target: Path) -> Path:
        if path.suffix == ".partial" and path.is_dir():
            raise KeyboardInterrupt
        return original(path, target)

    original = Path.replace
    folder = Work().ensure(runtime)
    change(folder / "deep" / "value.txt")
    cache._checked.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            Work().ensure(Runtime(runtime.root, rerun=True))
    assert {path.suffix for path in folder.parent.iterdir()} == {".lock", ".partial", ".replaced"}
    Work().ensure(runtime)
    assert Work.log == ["work", "work"]
    assert damage(folder) is None
    assert stage_folders(runtime) == [f"work/{folder.name}"]


def test_what_was_replaced_has_its_name_again_where_there_is_nothing_better(runtime: Runtime) -> None:
    folder = Work().ensure(runtime)
    folder.replace(folder.with_suffix(".replaced"))
    folder.with_suffix(".partial").mkdir()
    cache._checked.clear()
    assert Work().ensure(runtime) == folder
    assert Work.log == ["work"]
    # a damaged one is no better than it was
    change(folder / "deep" / "value.txt")
    folder.replace(folder.with_suffix(".replaced"))
    cache._checked.clear()
    with pytest.raises(UserError, match="--rerun"):
        Work().ensure(runtime)
    Work().ensure(Runtime(runtime.root, rerun=True))
    assert damage(folder) is None


def test_every_flipped_bit_of_an_artifact_is_noticed(runtime: Runtime) -> None:
    folder = Work().ensure(runtime)
    for name in read_provenance(folder)["files"]:
        content = (folder / name).read_bytes()
        for bit in range(0, 8 * len(content), max(1, 8 * len(content) // 40)):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            (folder / name).write_bytes(flipped)
            cache._checked.clear()
            assert damage(folder) == f"{name} was changed or truncated"
        (folder / name).write_bytes(content)
    assert damage(folder) is None


def test_a_refusal_of_the_disk_names_what_it_was_about(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Work, folder: Path, runtime: Runtime) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Work, "work", full)
    with pytest.raises(OSError, match="No space") as caught:
        Work().ensure(runtime)
    assert caught.value.filename == str(Work().folder(runtime).with_suffix(".partial"))
