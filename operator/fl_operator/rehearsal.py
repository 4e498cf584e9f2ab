"""What the API server would do, asked before it is done; nothing is kept of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog

from fl_core.errors import SpecError
from fl_operator.cluster.connection import Connection
from fl_operator.cluster.errors import (
    AlreadyExistsError,
    ClusterError,
    ForbiddenError,
    InvalidError,
    TransientError,
    WebhookError,
)
from fl_operator.cluster.resources import Object
from fl_operator.stopwatch import together
from fl_operator.trial import Trial, problems, trials_of_all
from job_generator.problems import Problem
from job_generator.settings import Settings

log = structlog.get_logger()

PAUSES: Final = (1.0, 2.0, 4.0)
"""Seconds before the template of all jobs is tried again with an API server that fails."""


async def unfit(connection: Connection, trials: Iterable[Trial]) -> tuple[Problem, ...]:
    """What the API server finds wrong with templates, field by field, or cannot read of them.

    What a quota or a policy is against, or a webhook that has to be asked in earnest, shows when the Jobs are made.
    """
    found = await together(_unfit(connection, trial) for trial in trials)
    return tuple(problem for some in found for problem in some)


async def approve_template(
    connection: Connection, settings: Settings, *, namespace: str, path: object
) -> None:
    """Raise SpecError where the API server finds something wrong with the template of all jobs, which is at this path
    here; otherwise each of their authors would be told of it. Where it does not say, as with a webhook of the namespace
    that is down, nothing is learnt.
    """
    for pause in (*PAUSES, None):
        try:
            wrong = await unfit(connection, trials_of_all(settings, namespace))
        except ClusterError as error:
            if isinstance(error, TransientError) and pause is not None:
                await asyncio.sleep(pause)
                continue
            log.warning("the template of all jobs was not tried", namespace=namespace, reason=str(error))
            return
        if wrong:
            raise SpecError("\n".join(f"--template {path}: {one}" for one in dict.fromkeys(wrong)))
        return


async def lacks_class(connection: Connection, claim: Object) -> bool | None:
    """Whether a claim that names no storage class would get none; None where nothing is learnt, as beyond a quota, or
    where the claim is there already.
    """
    try:
        made = await connection.create(claim, dry=True)
    except (AlreadyExistsError, ForbiddenError, InvalidError, WebhookError):
        return None
    return not made["spec"].get("storageClassName")


async def written(connection: Connection, repairs: Iterable[Object]) -> list[tuple[Object, Object]]:
    """Each of these children with what the API server would make of it: it may write values in another way."""
    found = await together(_written(connection, wanted) for wanted in repairs)
    return [pair for pair in found if pair is not None]


async def _written(connection: Connection, wanted: Object) -> tuple[Object, Object] | None:
    try:
        return wanted, await connection.apply(wanted, dry=True)
    except (ForbiddenError, InvalidError, WebhookError):
        return None


async def _unfit(connection: Connection, trial: Trial) -> list[Problem]:
    try:
        await connection.create(trial.job, dry=True)
    except InvalidError as error:
        return list(problems(trial, error))
    except (AlreadyExistsError, ForbiddenError, WebhookError):
        pass
    return []
