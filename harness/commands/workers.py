"""Options by which a command runs on several workers, gathered into one `launch.Job`."""

from __future__ import annotations

import functools
import os
import sys

import click

_OPTIONS = (
    click.option("--nproc", type=click.IntRange(1, 1024), help="Workers on this machine."),
    click.option("--nnodes", type=click.IntRange(1, 4096), default=1, help="Machines in the job."),
    click.option(
        "--master", metavar="HOST:PORT",
        help="The first machine's address, with --nnodes; or etcd://HOST:PORT.  "
        "[default: what srun says, once on each machine]",
    ),
    click.option("--ips", metavar="HOST,...", help="All machines' addresses, the first one first."),
    click.option("--devices", metavar="0,2", help="GPUs to use here."),
    click.option(
        "--max-restarts", type=click.IntRange(0, 1000), default=0,
        help="Start the job again so often if a worker dies.",
    ),
)


def options(command):
    """Decorator: --nproc, --nnodes, --master, --ips, --devices and --max-restarts, which the
    command gets as one argument `job`, a `harness.distributed.launch.Job` of this command line."""

    @functools.wraps(command)
    def with_job(*, nproc, devices, **others):
        from harness.distributed import launch, rendezvous

        settings = {k: others.pop(k) for k in ("nnodes", "master", "ips", "max_restarts")}
        if not settings["master"] and (found := rendezvous.of_slurm_step(os.environ)):
            settings["nnodes"], settings["master"] = found
        nproc = nproc or (len(devices.split(",")) if devices else 1)
        job = launch.Job(tuple(sys.argv[1:]), nproc=nproc, devices=devices, **settings)
        return command(job=job, **others)

    for option in reversed(_OPTIONS):
        with_job = option(with_job)
    return with_job
