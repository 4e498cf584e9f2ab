"""`fl-submit`: what a job's author types."""

from __future__ import annotations

import os

import click

from fl_core.commands import Commands

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # as the next: its core would write into the live table
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # read at import; `run` starts processes by exec

HERE = "job_generator.cli"
COMMANDS = {
    "init": (f"{HERE}.init:init", "Write a new job: job.yaml and a program that runs."),
    "check": (f"{HERE}.check:check", "Find what is wrong with a job, without running any of it."),
    "try": (f"{HERE}.attempt:attempt", "Train one round of one worker in this process; a debugger works."),
    "plan": (f"{HERE}.plan:plan", "Show what a job will need: processes, bytes per round, memory."),
    "compile": (f"{HERE}.compile:compile_", "Compile a job into the FL-Jobs of each role, for review."),
    "run": (f"{HERE}.run:run", "Train a job on this machine: real processes, live progress."),
    "fork": (f"{HERE}.fork:fork", "Start a new job that goes on from a round of another one."),
    "submit": (f"{HERE}.submit:submit", "Submit a job to a cluster, with its program."),
    "watch": (f"{HERE}.watch:watch", "Watch a job on a cluster until it is over."),
    "list": (f"{HERE}.list:list_runs", "List the runs on this machine, or the jobs on a cluster."),
    "status": (f"{HERE}.status:status", "Show where a run or a job stands."),
    "explain": (f"{HERE}.explain:explain", "Explain what is wrong with a job, and who must act."),
    "logs": (f"{HERE}.logs:logs", "Show the logs of a run or a job, merged by time."),
    "model": (f"{HERE}.model:model", "Write the model of a run or a job to a file."),
    "record": (f"{HERE}.record:record", "Show, verify or export the record of a run or a job."),
    "site": (f"{HERE}.sites:site", "Let sites outside the cluster join a job."),
    "scale": (f"{HERE}.scale:scale", "Scale a run or a job while it goes on: more or fewer workers."),
    "suspend": (f"{HERE}.suspend:suspend", "Suspend a run or a job: its processes go, its rounds stay."),
    "resume": (f"{HERE}.resume:resume", "Resume a run or a job that was suspended."),
    "stop": (f"{HERE}.stop:stop", "Stop a run or a job early, with a final model."),
    "delete": (f"{HERE}.delete:delete", "Delete a job on a cluster, and what belongs to it."),
    "doctor": (f"{HERE}.doctor:doctor", "Look at a cluster: what is there, what is missing, what to do."),
    "completion": (f"{HERE}.completion:completion", "Print what makes your shell complete fl-submit."),
}


@click.group(cls=Commands, later=COMMANDS)
@click.version_option(package_name="fljob", prog_name="fl-submit")
def main() -> None:
    """Federated learning, from one YAML file.

    \b
    The first steps:
      fl-submit init my-job
      fl-submit check my-job/job.yaml
      fl-submit run my-job/job.yaml

    Exit codes: 0 done, 2 wrong usage, 64 the job cannot go on, 65 the job is wrong, 66 its program, 67 a
    process does not fit the job, 68 too few workers, 70 a mistake of ours, 72 what was kept is damaged, 74 a
    disk or file, 75 try again, 76 another server has taken over, 130 Ctrl-C, 137 SIGKILL, 143 SIGTERM.
    """


if __name__ == "__main__":
    main(prog_name="fl-submit")
