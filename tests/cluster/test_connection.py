"""The verbs of the API in front of a real API server."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from fl_operator.cluster.connection import Connection
from fl_operator.cluster.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NamespaceTerminatingError,
    NotFoundError,
    TransientError,
    UnauthorizedError,
)
from fl_operator.cluster.resources import CONFIG_MAPS, FLJOBS, NAMESPACES, SECRETS, Key, key_of, uid_of
from fl_operator.cluster.transport import Request
from tests.cluster.proxy.faults import Fault, Faults, Order
from tests.cluster.proxy.server import FaultProxy
from tests.cluster.toy_operator import parent as config_map
from tests.cluster.way import ROOT, connected, define, play

pytestmark = pytest.mark.cluster


def test_lost_answers(cluster: Any, namespace: str) -> None:
    """A creation whose answer was lost has happened, and a second one says so."""

    async def scene() -> None:
        orders = [Order("POST", "/configmaps", Fault.CUT_AFTER)]
        async with (
            FaultProxy(cluster.kubeconfig, Faults(orders=orders)) as proxy,
            connected(proxy.kubeconfig) as connection,
        ):
            with pytest.raises(TransientError):
                await connection.create(config_map(namespace, "a"))
            with pytest.raises(AlreadyExistsError):
                await connection.create(config_map(namespace, "a"))

    play(scene())


def test_deleting(cluster: Any, namespace: str) -> None:
    """A deletion goes to the very object that was meant, and takes dependants first."""

    async def scene() -> None:
        async with connected(cluster.kubeconfig) as connection:
            made = await connection.create(config_map(namespace, "a"))
            with pytest.raises(ConflictError):
                await connection.delete(CONFIG_MAPS, key_of(made), uid="another")
            await connection.delete(CONFIG_MAPS, key_of(made), uid=uid_of(made))
            # Without controllers nobody ends it: it waits for its dependants to go first.
            going = await connection.read(CONFIG_MAPS, key_of(made))
            assert going["metadata"]["deletionTimestamp"]
            assert going["metadata"]["finalizers"] == ["foregroundDeletion"]

    play(scene())


def test_refusals(cluster: Any, namespace: str) -> None:
    """Each kind of refusal of a real API server is its own error."""

    async def scene() -> None:
        async with connected(cluster.kubeconfig) as connection:
            with pytest.raises(
                NotFoundError, match=r'GET .*: the API server answered NotFound: configmaps "no"'
            ):
                await connection.read(CONFIG_MAPS, Key(namespace, "no"))
            with pytest.raises(InvalidError, match="metadata.name"):
                await connection.create(config_map(namespace, "No_Name"))
            with pytest.raises(InvalidError, match="unknown field|field not declared"):
                await connection.apply({**config_map(namespace, "a"), "dada": {}})
            made = await connection.create(config_map(namespace, "a"))
            await connection.replace({**made, "data": {"x": "1"}})
            with pytest.raises(ConflictError):
                await connection.replace({**made, "data": {"x": "2"}})

    play(scene())


def test_no_rights(cluster: Any, namespace: str, tmp_path: Path) -> None:
    """A service account without rights is told so, and a token that is none is not known."""

    async def scene() -> None:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}}
        root = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        async with connected(cluster.kubeconfig) as connection:
            await connection.wire.send(Request("POST", root, body=account))
            asked = Request("POST", f"{root}/nobody/token", body={"spec": {}})
            token = (await connection.wire.send(asked))["status"]["token"]
        async with connected(with_token(cluster.kubeconfig, token, tmp_path)) as connection:
            with pytest.raises(ForbiddenError, match="nobody.* cannot get resource"):
                await connection.read(SECRETS, Key(namespace, "a"))
        async with connected(with_token(cluster.kubeconfig, "none", tmp_path)) as connection:
            with pytest.raises(UnauthorizedError):
                await connection.read(SECRETS, Key(namespace, "a"))

    play(scene())


def with_token(kubeconfig: Path, token: str, folder: Path) -> Path:
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    for user in config["users"]:
        user["user"] = {"token": token}
    for row in config["clusters"]:
        authority = row["cluster"].get("certificate-authority")
        if authority:
            row["cluster"]["certificate-authority"] = str(kubeconfig.parent / authority)
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def test_a_namespace_that_goes(cluster: Any, namespace: str) -> None:
    """What cannot be created because its namespace is being deleted can be told from missing rights."""

    async def scene() -> None:
        async with connected(cluster.kubeconfig) as connection:
            await connection.create(config_map(namespace, "stays"))
            known = await connection.read(NAMESPACES, Key("", namespace))
            await connection.delete(
                NAMESPACES, Key("", namespace), uid=uid_of(known), propagation="Background"
            )
            with pytest.raises(NamespaceTerminatingError):
                await forever_more(connection, namespace)

    play(scene())


async def forever_more(connection: Connection, namespace: str) -> None:
    """Create one object after the other: the API server needs a moment to see that the namespace goes."""
    for number in count():
        await connection.create(config_map(namespace, f"new-{number}"))
        await asyncio.sleep(0.1)


def test_status(cluster: Any, namespace: str) -> None:
    """A status is written whole and alone, and only over the version that was looked at."""

    async def scene() -> None:
        async with connected(cluster.kubeconfig) as connection:
            await define(connection)
            text = (ROOT / "examples" / "digits" / "job.yaml").read_text(encoding="utf-8")
            job = yaml.safe_load(text)
            job["metadata"]["namespace"] = namespace
            made = await connection.create(job)
            slim = {name: made[name] for name in ("apiVersion", "kind")}
            names = ("namespace", "name", "resourceVersion")
            slim["metadata"] = {name: made["metadata"][name] for name in names}
            first = await connection.write_status({**slim, "status": {"attempt": 1, "observedGeneration": 1}})
            assert (first["status"], first["spec"]) == ({"attempt": 1, "observedGeneration": 1}, made["spec"])
            with pytest.raises(ConflictError):
                await connection.write_status({**slim, "status": {"attempt": 2}})
            slim["metadata"]["resourceVersion"] = first["metadata"]["resourceVersion"]
            second = await connection.write_status({**slim, "status": {"attempt": 2}})
            assert second["status"] == {"attempt": 2}
            listed = [one async for one in connection.objects(FLJOBS, namespace=namespace)]
            assert [key_of(one) for one in listed] == [key_of(made)]

    play(scene())
