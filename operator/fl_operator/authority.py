"""The cluster's certificate authority: one Secret in the operator's own namespace, made by whoever comes first."""

from __future__ import annotations

import base64
from typing import Final

import structlog

from fl_core.identity import Authority
from fl_operator.cluster.connection import Connection
from fl_operator.cluster.errors import AlreadyExistsError, NotFoundError
from fl_operator.cluster.resources import SECRETS, Key, Object

log = structlog.get_logger()

NAME: Final = "fljob-authority"
KEY: Final = "tls.key"
CERTIFICATE: Final = "tls.crt"


async def authority_of(connection: Connection, namespace: str) -> Authority:
    """The authority that is kept in this namespace; a new one where there is none."""
    key = Key(namespace, NAME)
    try:
        return _read(await connection.read(SECRETS, key))
    except NotFoundError:
        made = Authority(f"cluster {namespace}")
    try:
        await connection.create(_secret(made, key))
    except AlreadyExistsError:  # another replica was quicker
        return _read(await connection.read(SECRETS, key))
    log.info("authority made", secret=str(key))
    return made


def _secret(authority: Authority, key: Key) -> Object:
    private, certificate = authority.dump()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "labels": {"app.kubernetes.io/managed-by": "fljob-operator"},
        },
        "data": {
            KEY: base64.b64encode(private).decode(),
            CERTIFICATE: base64.b64encode(certificate).decode(),
        },
    }


def _read(secret: Object) -> Authority:
    data = secret.get("data") or {}
    return Authority.load(*(base64.b64decode(data.get(name, "")) for name in (KEY, CERTIFICATE)))
