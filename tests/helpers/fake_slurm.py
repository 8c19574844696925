"""A stand-in for SLURM on one machine: as much of sbatch, srun, squeue, sacct and scancel as experiments use.

python fake_slurm.py COMMAND ARGUMENTS…, with $FAKE_SLURM, a folder that gets a folder for each job: its script, name,
state, and the process of its task. $FAKE_SLURM_SLOTS jobs run at a time (2); beyond $FAKE_SLURM_LIMIT sbatch refuses;
a job counts as running for $FAKE_SLURM_LINGER more seconds; with $FAKE_SLURM_ACCOUNTING=none sacct does not answer.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ALIVE = ("PENDING", "RUNNING")
COMMANDS = ("sbatch", "srun", "squeue", "sacct", "scancel")


def install(folder: Path) -> dict[str, str]:
    """Write the commands into a folder, and return the environment in which they are found."""
    (folder / "bin").mkdir(parents=True)
    for name in COMMANDS:
        command = folder / "bin" / name
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {Path(__file__).resolve()} {name} "$@"\n')
        command.chmod(0o755)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "FAKE_SLURM": str(folder / "jobs")}


def state_of(job: Path) -> str:
    """Return the state of a job."""
    return (job / "state").read_text()


def sbatch(jobs: Path, script: str) -> None:
    """Put a job into the queue."""
    if sum(state_of(job) in ALIVE for job in jobs.iterdir()) >= int(os.environ.get("FAKE_SLURM_LIMIT", "99")):
        sys.exit("sbatch: error: QOSMaxSubmitJobPerUserLimit")
    job = jobs / str(time.time_ns() // 1000)
    job.mkdir()
    shutil.copy(script, job / "script")
    lines = (job / "script").read_text().splitlines()
    (job / "name").write_text(next(line.partition("=")[2] for line in lines if "--job-name" in line))
    set_state(job, "PENDING")
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen([sys.executable, "-S", "-E", __file__, "run", job.name], start_new_session=True, **quiet)
    print(f"Submitted batch job {job.name}")


def run(jobs: Path, number: str) -> None:
    """Wait for a slot, and run the script of a job, as the machinery of SLURM does."""
    job = jobs / number
    while not begin(jobs, job):
        if state_of(job) != "PENDING":
            return
        time.sleep(0.02)
    environment = {**os.environ, "SLURM_JOB_ID": number, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
    code = subprocess.call(["/bin/bash", str(job / "script")], env=environment)
    time.sleep(float(os.environ.get("FAKE_SLURM_LINGER", "0")))
    set_state(job, "COMPLETED" if code == 0 else "FAILED", only="RUNNING")


def begin(jobs: Path, job: Path) -> bool:
    """Return whether a job has got a slot."""
    with (jobs.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        taken = sum(state_of(each) == "RUNNING" for each in jobs.iterdir() if (each / "state").exists())
        return taken < int(os.environ.get("FAKE_SLURM_SLOTS", "2")) and set_state(job, "RUNNING", only="PENDING")


def set_state(job: Path, state: str, only: str = "") -> bool:
    """Set the state of a job, if it has the state `only`; return whether it was set."""
    if only and state_of(job) != only:
        return False
    (job / "next").write_text(state)
    (job / "next").rename(job / "state")
    return True


def srun(jobs: Path, *words: str) -> None:
    """Become the task of the job; its words are those behind the options."""
    number = os.environ["SLURM_JOB_ID"]
    files = {words[at]: words[at + 1].replace("%j", number).replace("%t", "0") for at in (1, 3)}
    for descriptor, option in ((1, "--output"), (2, "--error")):
        os.dup2(os.open(files[option], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), descriptor)
    (jobs / number / "task").write_text(str(os.getpid()))
    os.execvp(words[5], words[5:])


def squeue(jobs: Path, *words: str) -> None:
    """Print the name of a job that waits or runs."""
    job = jobs / words[-1].removeprefix("--jobs=")
    if not job.exists() or state_of(job) not in ALIVE:
        sys.exit("slurm_load_jobs error: Invalid job id specified")
    print((job / "name").read_text())


def sacct(jobs: Path, *words: str) -> None:
    """Print the states of jobs."""
    if os.environ.get("FAKE_SLURM_ACCOUNTING") == "none":
        sys.exit("Slurm accounting storage is disabled")
    print("JobID|State|NodeList")
    for number in words[words.index("-j") + 1 :: 2]:
        if (jobs / number / "state").exists():
            print(f"{number}|{state_of(jobs / number)}|here")


def scancel(jobs: Path, *words: str) -> None:
    """End jobs, those in a state, or send a signal to those that run."""
    options = dict(word.removeprefix("--").split("=") for word in words if word.startswith("--"))
    sent = signal.Signals[f"SIG{options.get('signal', 'TERM')}"]
    for job in [jobs / word for word in words if not word.startswith("--")]:
        state = state_of(job)
        if state not in ALIVE or options.get("state", state) != state:
            continue
        if "signal" not in options:
            set_state(job, "CANCELLED by 0")
        if state == "RUNNING" and (job / "task").exists():
            try:
                os.kill(int((job / "task").read_text()), sent)
            except ProcessLookupError:
                continue


if __name__ == "__main__":
    FOLDER = Path(os.environ["FAKE_SLURM"])
    FOLDER.mkdir(exist_ok=True)
    {each.__name__: each for each in (sbatch, run, srun, squeue, sacct, scancel)}[sys.argv[1]](FOLDER, *sys.argv[2:])
