"""Two users of one group work in one runs folder; for what one of them may not touch, the other gets a line."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from workbench.stages import base

ONE, OTHER, GROUP = 61_001, 61_002, 61_000
PROJECT = Path(base.__file__).parents[2]
WORK = """
    import os, sys
    from pathlib import Path
    from typing import ClassVar
    from workbench.core.files import disk_refusal, locked, write_whole
    from workbench.stages import base
    from workbench.core.config import UserError
    from workbench.stages.base import Stage
    from workbench.stages.runtime import Runtime
    from workbench.tracking.record import Record, Records
    from workbench.experiments.tune.journal import Backend

    user, group, mask = map(int, sys.argv[3:6])
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)  # the interpreter itself may lie where this user cannot read: all is imported by now
    os.umask(mask)
    base.provenance = lambda runtime: {}  # without importing torch

    class Work(Stage):
        name: ClassVar[str] = "work"
        seconds_per_effort: ClassVar[float] = 1.0
        number: int = 0
        def effort(self): return 1.0
        def work(self, folder, runtime):
            (folder / "value").write_text(str(self.number))

    root = Path(sys.argv[1])
    try:
        runtime = Runtime(root, rerun=sys.argv[2] == "rerun")
        runtime.require_writable()
        study = root / "studies" / "name" / "smoke"
        for number in range(2):
            Work(number=number).ensure(runtime)
        study.mkdir(parents=True, exist_ok=True)
        with locked(study):
            write_whole(study / "cells.json", "[]")
        Records(root).write(Record(run_id="a" * 12, job_type="a", name=str(user), config={}, folder=".", artifact="a",
                                   artifact_type="a"))
        Backend(study / "optuna.journal", print).append_logs([{"op_code": 1, "worker_id": str(user)}])
    except Exception as error:  # as __main__ does
        print("error:", error if isinstance(error, UserError) else disk_refusal(error, root) or repr(error))
        sys.exit(2)
    print("done")
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two users")


def as_user(user: int, mask: int, runs: Path, how: str = "") -> "subprocess.CompletedProcess[str]":
    """The work in the name of a user whose only group is the common one."""
    words = [sys.executable, "-c", textwrap.dedent(WORK), str(runs), how, str(user), str(GROUP), str(mask)]
    return subprocess.run(
        words, cwd=PROJECT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(PROJECT)}
    )


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder of the group's, whose files are the group's too."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder.parts[1:2] == ("tmp",) and len(folder.parts) > 2:
            folder.chmod(0o755)
    root = tmp_path / "shared"
    root.mkdir()
    os.chown(root, ONE, GROUP)
    root.chmod(0o2775)
    return root


def test_two_users_of_a_group_share_a_runs_folder(shared: Path) -> None:
    runs = shared / "runs"
    for user in (ONE, OTHER, ONE):
        done = as_user(user, 0o002, runs)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "done\n"
    # what one made is damaged; the other makes it again, in its place
    for value in runs.glob("stages/work/*/value"):
        value.write_text("damaged")
    done = as_user(OTHER, 0o002, runs, "rerun")
    assert done.returncode == 0, done.stderr
    assert {value.stat().st_uid for value in runs.glob("stages/work/*/value")} == {OTHER}
    for path in runs.rglob("*"):
        status = path.stat()
        assert status.st_gid == GROUP, path
        assert status.st_mode & 0o060 == 0o060, (path, oct(status.st_mode))


def test_what_the_other_user_may_not_touch_is_a_line(shared: Path) -> None:
    runs = shared / "runs"
    assert as_user(ONE, 0o022, runs).returncode == 0
    done = as_user(OTHER, 0o022, runs)
    assert done.returncode == 2
    assert (
        done.stdout
        == f"error: the runs folder {runs} is not writable (Permission denied): choose another with --runs\n"
    )
    # a lock that is its owner's alone, in a folder that is the group's
    for folder in (path for path in (runs, *runs.rglob("*")) if path.is_dir()):
        folder.chmod(0o2775)
    lock = runs / "studies" / "name" / "smoke" / ".lock"
    assert lock.stat().st_mode & 0o777 == 0o644
    done = as_user(OTHER, 0o022, runs)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.startswith(f"error: cannot use {lock} (Permission denied)")
    assert done.stdout.count("\n") == 1
