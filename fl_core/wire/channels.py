"""Mutual TLS in both directions: opening a channel, opening a port, and knowing who called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc

from fl_core.errors import MismatchError, UnavailableError
from fl_core.identity import Credentials, Identity

MESSAGE_LIMIT = 4 << 20
"""No message may be larger, whatever the model's size: arrays travel in chunks."""
MOST_CLOSED, CLOSED_BYTES = 100, 1 << 20
"""Closed rounds in one observation, and bytes of their lines, if it is more than one: a watcher that comes late gets
them in several, none too long to send.
"""

OPTIONS = (
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.so_reuseport", 0),
)


def open_channel(address: str, folder: Path, *, peer: str) -> grpc.aio.Channel:
    """A channel to the process of this job whose role is `peer`; another one fails the handshake.

    A certificate is good for a name of its role and job, whatever address it is dialled at.
    """
    return dial(address, Credentials.read(folder), peer=peer)


def dial(address: str, own: Credentials, *, peer: str) -> grpc.aio.Channel:
    """As `open_channel`, with credentials that no file holds."""
    credentials = grpc.ssl_channel_credentials(own.authority, own.key, own.certificate)
    name = Identity(own.identity.job, peer).host
    options = (*OPTIONS, ("grpc.ssl_target_name_override", name))
    return grpc.aio.secure_channel(address, credentials, options=options)


async def open_port(server: grpc.aio.Server, address: str, folder: Path) -> str:
    """Listen at `host:port` (port 0: any free one) for peers with a certificate; returns the address."""
    own = Credentials.read(folder)
    credentials = grpc.ssl_server_credentials(
        [(own.key, own.certificate)], root_certificates=own.authority, require_client_auth=True
    )
    host = address.rpartition(":")[0]
    try:
        return f"{host}:{server.add_secure_port(address, credentials)}"
    except RuntimeError as error:
        raise UnavailableError(f"nobody can listen at {address}: {error}") from error


def caller(context: grpc.aio.ServicerContext[Any, Any]) -> Identity:
    """Who calls, from the verified certificate."""
    names = context.auth_context().get("x509_subject_alternative_name", [])
    for name in names:
        if name.startswith(b"spiffe://"):
            return Identity.from_uri(name.decode())
    raise MismatchError("the caller's certificate names no process of an FLJob")
