"""A Slurm of one node on this machine, on the loopback interface alone, for as long as a `with` lasts."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
# Options of Snakemake for it: it has no accounting, and jobs are short.
SITE = ("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2")
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller}
SlurmdPort={daemon}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
SwitchType=switch/none
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=12000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def is_installed() -> bool:
    """Whether Slurm and munge are here, and may be started: a cluster's daemons are root's."""
    return os.geteuid() == 0 and all(shutil.which(name, path=_path()) for name in PROGRAMS)


@contextlib.contextmanager
def slurm(folder: Path, cpus: int = 2) -> Iterator[dict[str, str]]:
    """Start munge and Slurm, with all that they write in `folder`; yield the environment to use them from."""
    folder.mkdir(parents=True)
    folder.chmod(0o755)  # munged refuses a folder that others may write to
    host = socket.gethostname().partition(".")[0]
    configuration = folder / "slurm.conf"
    ports = {"controller": _free_port(), "daemon": _free_port()}
    configuration.write_text(CONFIGURATION.format(host=host, folder=folder, cpus=cpus, **ports))
    environment = os.environ | {"SLURM_CONF": str(configuration), "PATH": f"{folder / 'bin'}:{_path()}"}
    _keep_configuration_within_jobs(folder, configuration)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    files = [f"--{name}={folder}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
    munged = ["munged", "--force", "--foreground", f"--key-file={key}", *files]
    with contextlib.ExitStack() as stack:
        for command in (munged, ["slurmctld", "-D", "-i"], ["slurmd", "-D", "-N", host]):
            log = stack.enter_context((folder / f"{command[0]}.out").open("w"))
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            stack.callback(_end, process)
            _wait_until(folder, lambda: (folder / "munge.socket").exists())
        _wait_until(folder, lambda: "idle" in _state(environment))
        stack.callback(subprocess.run, ["scancel", "--full", "--user=root"], env=environment)
        yield environment


def _keep_configuration_within_jobs(folder: Path, configuration: Path) -> None:
    """Snakemake takes SLURM_CONF from its jobs' environment; a cluster has its file in /etc/slurm."""
    shim = folder / "bin" / "srun"
    shim.parent.mkdir()
    real = shutil.which("srun", path=_path())
    shim.write_text(f'#!/bin/sh\nSLURM_CONF={configuration} exec {real} "$@"\n')
    shim.chmod(0o755)


def _state(environment: dict[str, str]) -> str:
    return subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True).stdout


def _wait_until(folder: Path, is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            logs = "\n".join(f"{path.name}:\n{path.read_text()}" for path in sorted(folder.glob("*.out")))
            raise TimeoutError(f"Slurm did not start in {seconds:.0f} s\n{logs}")
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
