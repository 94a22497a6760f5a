"""A real SLURM on this machine, for a while: munged, slurmctld, and slurmd for one node or more."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
TIMEOUT = 60

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
KillWait=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
A_NODE = "NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} State=UNKNOWN"


def install() -> None:
    """Install Debian's SLURM unless it is here; skips the test where that is not possible."""
    if shutil.which("slurmctld") and shutil.which("slurmd") and shutil.which("munged"):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("needs slurmctld, slurmd and munged, or root on Debian to install them")
    for words in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(["apt-get", *words], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"cannot install SLURM: {done.stderr.strip()[-300:]}")


@contextmanager
def running(folder: Path, num_nodes: int = 1) -> Iterator[Path]:
    """Start the daemons in `folder`, which root owns and nobody else may write; gives the configuration's path.

    They are stopped in the end. Jobs and commands find the cluster by the path in SLURM_CONF. All nodes are this
    machine, and share two CPUs.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can start SLURM's daemons")
    (folder / "state").mkdir()
    names = [f"node{number}" for number in range(num_nodes)]
    for name in names:
        (folder / f"spool-{name}").mkdir()
    key, config = folder / "munge.key", folder / "slurm.conf"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    controller_port, *ports = _free_ports(1 + num_nodes)
    host = socket.gethostname().partition(".")[0]
    nodes = "\n".join(
        A_NODE.format(node=name, host=host, port=port, cpus=max(1, 2 // num_nodes))
        for name, port in zip(names, ports, strict=True)
    )
    config.write_text(CONFIG.format(folder=folder, host=host, controller_port=controller_port, nodes=nodes).lstrip())
    paths = {"key": key, "socket": folder / "munge.socket", "pid": folder / "munged.pid"}
    paths |= {"log": folder / "munged.log", "seed": folder / "munged.seed"}
    flags = [f"--{name}{'' if name == 'socket' else '-file'}={path}" for name, path in paths.items()]
    with ExitStack() as stack:
        stack.enter_context(_daemon(["munged", "--foreground", "--force", *flags], folder))
        _wait_until(paths["socket"].exists, folder)
        stack.enter_context(_daemon(["slurmctld", "-D", "-f", str(config)], folder))
        for name in names:
            stack.enter_context(_daemon(["slurmd", "-D", "-f", str(config), "-N", name], folder))
        _wait_until(lambda: _states(config) == {"idle"}, folder)
        yield config


def _states(config: Path) -> set[str]:
    """The states of the nodes."""
    command = ["sinfo", "--noheader", "--format=%T"]
    answer = subprocess.run(command, env=os.environ | {"SLURM_CONF": str(config)}, capture_output=True, text=True)
    return set(answer.stdout.split())


@contextmanager
def _daemon(command: list[str], folder: Path) -> Iterator[None]:
    with (folder / f"{command[0]}-{command[-1].rpartition('/')[2]}.out").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(TIMEOUT)


def _wait_until(reached: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not reached():
        assert time.monotonic() < deadline, [path.read_text()[-1500:] for path in folder.glob("*.log")]
        time.sleep(0.1)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
