"""What a job's server signs when the job ends: an in-toto statement about its model and its record, in a DSSE envelope.

The statement (in-toto Attestation Framework, Statement v1) names the final model's file and the record's file by their
SHA-256, and in its predicate the job, the plan, the program, the head of the record's chain and why the job ended. The
envelope (DSSE v1) is signed with the key of the server's certificate, ECDSA over P-256 with SHA-256; what is signed
begins with `DSSEv1`, so that it can be mistaken neither for a TLS handshake's nor for a statement of secure aggregation
(docs/decisions/0010). It carries the certificate and the authority's; whoever checks brings an authority of their own.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from fl_core.errors import MismatchError
from fl_core.identity import Credentials, Identity
from fl_core.images import OTHERS, Used
from fl_core.plan import Plan, canonical
from fl_core.record import Head
from fl_core.secagg.signing import ALGORITHM, UNREADABLE, CertifiedSigner, issued

STATEMENT: Final = "https://in-toto.io/Statement/v1"
PAYLOAD: Final = "application/vnd.in-toto+json"
PREDICATE: Final = "https://fljob.dev/attestation/record/v1"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended: why, when, with which model (its digest; empty where there is none) after which round."""

    reason: str
    at: dt.datetime
    model: str
    round: int


def statement(
    plan: Plan, head: Head, ending: Ending, *, files: dict[str, str], images: Iterable[Used] = ()
) -> Json:
    """What is signed; `files` are the SHA-256 of files of the storage by their names, `images` those of the record."""
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": files[name]}} for name in sorted(files)],
        "predicateType": PREDICATE,
        "predicate": {
            "job": plan.job.model_dump(),
            "plan": plan.digest,
            "program": plan.program.sha256 or "",
            "seed": plan.seed,
            "record": {"lines": head.lines, "last": head.digest},
            "resolvedDependencies": [one.descriptor for one in images if one.reference != OTHERS],
            "model": ending.model,
            "round": ending.round,
            "ending": ending.reason,
            "at": ending.at.isoformat(timespec="seconds"),
        },
    }


def signed(content: Json, credentials: Credentials) -> Json:
    """The statement in its envelope, signed by this process."""
    payload = canonical(content).encode()
    signature = CertifiedSigner(credentials).sign(_encoded(payload))
    return {
        "payloadType": PAYLOAD,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [
            {
                "keyid": credentials.identity.uri,
                "sig": base64.b64encode(signature).decode(),
                "certificate": credentials.certificate.decode(),
                "authority": credentials.authority.decode(),
            }
        ],
    }


def content_of(envelope: Json) -> Json:
    """The statement in an envelope, whoever may have signed it; MismatchError for what is none."""
    try:
        content: Json = json.loads(base64.b64decode(envelope["payload"], validate=True))
        fits = (envelope["payloadType"], content["_type"], content["predicateType"])
        said = content["predicate"]
        Head(int(said["record"]["lines"]), str(said["record"]["last"]))
        _ = [said[name] for name in ("plan", "at", "ending")], said["job"]["uid"]
        _ = [f"{one['name']}: {one['digest']['sha256']}" for one in content["subject"]]
    except (ValueError, KeyError, TypeError) as error:
        raise MismatchError(f"it is no signed statement about a record: {error!r}") from error
    if fits != (PAYLOAD, STATEMENT, PREDICATE):
        raise MismatchError(f"it is a statement of another kind, {fits[2]!r}; {PREDICATE} is read here")
    return content


def authority_in(envelope: Json) -> bytes:
    """The authority's certificate (PEM) that came with a signature, for which nobody vouches."""
    try:
        return str(envelope["signatures"][0]["authority"]).encode()
    except (KeyError, IndexError, TypeError) as error:
        raise MismatchError("its signature comes without the certificate of an authority") from error


def check(envelope: Json, *, job: str, authorities: Sequence[bytes]) -> None:
    """Refuse an envelope that this job's server has not signed under one of these authorities (PEM).

    The certificate must have been good at the time that the statement gives: records outlive certificates.
    """
    content = content_of(envelope)
    try:
        (entry,) = envelope["signatures"]
        certificate = x509.load_pem_x509_certificate(str(entry["certificate"]).encode())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        who = Identity.from_uri(*names.get_values_for_type(x509.UniformResourceIdentifier))
        at = dt.datetime.fromisoformat(content["predicate"]["at"]).astimezone(dt.UTC)
        signature = base64.b64decode(entry["sig"], validate=True)
        key = certificate.public_key()
        trusted = [x509.load_pem_x509_certificate(text) for text in authorities]
    except (*UNREADABLE, KeyError) as error:
        raise MismatchError(f"its signature cannot be read: {error}") from error
    if not any(issued(certificate, authority) for authority in trusted):
        raise MismatchError("it is signed under a certificate that no trusted authority has issued")
    if who != Identity(job, "server"):
        raise MismatchError(f"it is signed by {who.uri}, which is not the server of job {job}")
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        raise MismatchError(f"it is signed under a certificate that was not good at {at:%Y-%m-%d %H:%M} UTC")
    _verify(key, signature, _encoded(base64.b64decode(envelope["payload"])))


def _verify(key: object, signature: bytes, content: bytes) -> None:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MismatchError("it is signed with a key that is not of the curve P-256")
    try:
        key.verify(signature, content, ALGORITHM)
    except InvalidSignature:
        raise MismatchError("its signature does not fit what it is said to sign") from None


def _encoded(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    kind = PAYLOAD.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
