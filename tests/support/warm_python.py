"""Python processes that begin with the libraries loaded.

Importing PyTorch, diffusers and Lightning takes six seconds, and tests start dozens of commands. Here one process
imports them once and forks for every command, which runs as `python -m workbench ...` does: its own process id, exit
code, working directory, environment, signals and output. It has one thread when it forks (OMP_NUM_THREADS=1).

Not for tests of what is imported when, or of variables that a library reads while it is imported.
"""

import atexit
import contextlib
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
LIBRARIES = (
    "diffusers",
    "lightning",
    "optuna",
    "torchmetrics",
    "diffusers.models.unets.unet_2d",
    "studies.robustness.study",
    "studies.autoencoders.study",
    "workbench.cli",
    "workbench.experiments.run",
    "workbench.experiments.tune",
    "workbench.reporting",
    "workbench.tracking.tracker",
    "workbench.training.fit",
)


class WarmProcess:
    """What `subprocess.Popen([sys.executable, *words])` is.

    Args:
        words: the interpreter's arguments: `-m MODULE ...`, `-c CODE ...` or `SCRIPT ...`.
        log: the file that the output is written to.
        errors: the file for errors; None: the same.
    """

    def __init__(
        self,
        words: Sequence[str],
        log: Path,
        cwd: Path = PROJECT,
        env: Mapping[str, str] | None = None,
        errors: Path | None = None,
    ) -> None:
        self._status = Path(tempfile.mkdtemp(prefix="warm-")) / "status"
        self.returncode: int | None = None
        for path in {log, errors or log}:
            path.write_text("")
        request = {
            "words": [*map(str, words)],
            "outputs": [str(log), str(errors or log)],
            "cwd": str(cwd),
            "env": dict(os.environ if env is None else env),
            "status": str(self._status),
        }
        server = _server()
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        self.pid = int(server.stdout.readline())

    def poll(self) -> int | None:
        if self.returncode is None and self._status.exists():
            self.returncode = int(self._status.read_text())
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a warm process", timeout or 0)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def warm_run(
    words: Sequence[str], cwd: Path = PROJECT, env: Mapping[str, str] | None = None, timeout: float = 300
) -> "subprocess.CompletedProcess[str]":
    """`subprocess.run` of Python with these arguments."""
    with tempfile.TemporaryDirectory() as folder:
        log, errors = Path(folder) / "log", Path(folder) / "errors"
        process = WarmProcess(words, log, cwd, env, errors)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess([*words], code, log.read_text(), errors.read_text())


@cache
def _server() -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        env=environment | {"PYTHONPATH": os.pathsep.join([str(PROJECT), environment.get("PYTHONPATH", "")])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # Ctrl-C is the tests' to handle
    )
    atexit.register(server.kill)
    return server


def _serve() -> dict[str, Any]:
    """Fork for each request; returns in the fork, with its request."""
    for line in sys.stdin:
        request = json.loads(line)
        if os.fork() == 0:  # this one waits for the command, so that the server is always free
            if (pid := os.fork()) == 0:
                return request
            print(pid, flush=True)
            _, status = os.waitpid(pid, 0)
            path = Path(request["status"])
            path.with_suffix(".new").write_text(str(os.waitstatus_to_exitcode(status)))
            path.with_suffix(".new").rename(path)
            os._exit(0)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    os._exit(0)


def _become(request: dict[str, Any]) -> None:
    """Run as the interpreter would."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, path in enumerate(request["outputs"], 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), descriptor)  # append: the two may be one file
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    words = request["words"]
    sys.path[:1] = [request["cwd"], *filter(None, request["env"].get("PYTHONPATH", "").split(os.pathsep))]
    match words:
        case ["-m", module, *arguments]:
            sys.argv = [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-c", code, *arguments]:
            sys.argv = ["-c", *arguments]
            exec(code, {"__name__": "__main__"})
        case [script, *arguments]:
            sys.argv = [script, *arguments]
            sys.path[0] = str(Path(script).parent)
            runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    sys.path.insert(1, str(PROJECT))
    for library in LIBRARIES:
        importlib.import_module(library)
    _become(_serve())
