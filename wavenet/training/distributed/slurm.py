"""Asking Slurm to requeue a job that it ended early."""

import logging
import subprocess

from wavenet.utils.errors import MachineError, printable

log = logging.getLogger("wavenet")


def requeue(job: str | None) -> None:
    """Ask Slurm to start a job again.

    Args:
        job: Its number; `None` outside of Slurm.

    Raises:
        MachineError: Slurm refuses, or this is no Slurm job.
    """
    if job is None:
        raise MachineError("trainer.auto_requeue: SLURM_JOB_ID is not set, so this is no Slurm job")
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise MachineError(
            f"trainer.auto_requeue: cannot run scontrol ({error.strerror}); the run is saved, "
            f"submit job {job} again by hand"
        ) from error
    if done.returncode:
        raise MachineError(
            f"trainer.auto_requeue: scontrol requeue {job} failed "
            f"({printable(done.stderr.strip())}); the run is saved, submit the job again by hand"
        )
    log.info("asked Slurm to requeue job %s", job)
