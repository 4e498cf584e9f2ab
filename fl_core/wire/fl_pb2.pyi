from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_UNSPECIFIED: _ClassVar[Kind]
    KIND_MODEL: _ClassVar[Kind]
    KIND_UPDATE: _ClassVar[Kind]
    KIND_INITIAL: _ClassVar[Kind]
    KIND_MASKED: _ClassVar[Kind]
KIND_UNSPECIFIED: Kind
KIND_MODEL: Kind
KIND_UPDATE: Kind
KIND_INITIAL: Kind
KIND_MASKED: Kind

class Context(_message.Message):
    __slots__ = ("job", "plan", "round", "attempt")
    JOB_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    job: str
    plan: str
    round: int
    attempt: int
    def __init__(self, job: _Optional[str] = ..., plan: _Optional[str] = ..., round: _Optional[int] = ..., attempt: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Presence(_message.Message):
    __slots__ = ("context", "enrolment", "beat", "decline", "leave", "parting")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    ENROLMENT_FIELD_NUMBER: _ClassVar[int]
    BEAT_FIELD_NUMBER: _ClassVar[int]
    DECLINE_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    PARTING_FIELD_NUMBER: _ClassVar[int]
    context: Context
    enrolment: Enrolment
    beat: Beat
    decline: Decline
    leave: Leave
    parting: Parting
    def __init__(self, context: _Optional[_Union[Context, _Mapping]] = ..., enrolment: _Optional[_Union[Enrolment, _Mapping]] = ..., beat: _Optional[_Union[Beat, _Mapping]] = ..., decline: _Optional[_Union[Decline, _Mapping]] = ..., leave: _Optional[_Union[Leave, _Mapping]] = ..., parting: _Optional[_Union[Parting, _Mapping]] = ...) -> None: ...

class Enrolment(_message.Message):
    __slots__ = ("program", "weights", "manifest", "moves")
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    program: str
    weights: str
    manifest: str
    moves: bool
    def __init__(self, program: _Optional[str] = ..., weights: _Optional[str] = ..., manifest: _Optional[str] = ..., moves: _Optional[bool] = ...) -> None: ...

class Beat(_message.Message):
    __slots__ = ("moved",)
    MOVED_FIELD_NUMBER: _ClassVar[int]
    moved: int
    def __init__(self, moved: _Optional[int] = ...) -> None: ...

class Decline(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Leave(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Parting(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Order(_message.Message):
    __slots__ = ("context", "initialise", "train", "evaluate", "release", "stop", "refusal", "welcome")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    INITIALISE_FIELD_NUMBER: _ClassVar[int]
    TRAIN_FIELD_NUMBER: _ClassVar[int]
    EVALUATE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    context: Context
    initialise: Initialise
    train: Train
    evaluate: Evaluate
    release: Release
    stop: Stop
    refusal: Refusal
    welcome: Welcome
    def __init__(self, context: _Optional[_Union[Context, _Mapping]] = ..., initialise: _Optional[_Union[Initialise, _Mapping]] = ..., train: _Optional[_Union[Train, _Mapping]] = ..., evaluate: _Optional[_Union[Evaluate, _Mapping]] = ..., release: _Optional[_Union[Release, _Mapping]] = ..., stop: _Optional[_Union[Stop, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("beat_seconds",)
    BEAT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    beat_seconds: float
    def __init__(self, beat_seconds: _Optional[float] = ...) -> None: ...

class Initialise(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Train(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class Evaluate(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Stop(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("sentence",)
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    sentence: str
    def __init__(self, sentence: _Optional[str] = ...) -> None: ...

class Convening(_message.Message):
    __slots__ = ("context", "model", "manifest", "initialise", "train", "evaluate", "rejoin", "only", "epoch", "draw")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    INITIALISE_FIELD_NUMBER: _ClassVar[int]
    TRAIN_FIELD_NUMBER: _ClassVar[int]
    EVALUATE_FIELD_NUMBER: _ClassVar[int]
    REJOIN_FIELD_NUMBER: _ClassVar[int]
    ONLY_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DRAW_FIELD_NUMBER: _ClassVar[int]
    context: Context
    model: str
    manifest: str
    initialise: Initialise
    train: Train
    evaluate: Roll
    rejoin: Roll
    only: Roll
    epoch: int
    draw: int
    def __init__(self, context: _Optional[_Union[Context, _Mapping]] = ..., model: _Optional[str] = ..., manifest: _Optional[str] = ..., initialise: _Optional[_Union[Initialise, _Mapping]] = ..., train: _Optional[_Union[Train, _Mapping]] = ..., evaluate: _Optional[_Union[Roll, _Mapping]] = ..., rejoin: _Optional[_Union[Roll, _Mapping]] = ..., only: _Optional[_Union[Roll, _Mapping]] = ..., epoch: _Optional[int] = ..., draw: _Optional[int] = ...) -> None: ...

class Roll(_message.Message):
    __slots__ = ("workers",)
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    workers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, workers: _Optional[_Iterable[str]] = ...) -> None: ...

class CohortEvent(_message.Message):
    __slots__ = ("cohort", "lost", "moved", "waiting", "failure")
    COHORT_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    cohort: Cohort
    lost: Loss
    moved: Motion
    waiting: Waiting
    failure: str
    def __init__(self, cohort: _Optional[_Union[Cohort, _Mapping]] = ..., lost: _Optional[_Union[Loss, _Mapping]] = ..., moved: _Optional[_Union[Motion, _Mapping]] = ..., waiting: _Optional[_Union[Waiting, _Mapping]] = ..., failure: _Optional[str] = ...) -> None: ...

class Cohort(_message.Message):
    __slots__ = ("workers", "dissenters", "silent", "weights", "manifest", "live", "passed_over", "away", "absent", "refused")
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    DISSENTERS_FIELD_NUMBER: _ClassVar[int]
    SILENT_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    PASSED_OVER_FIELD_NUMBER: _ClassVar[int]
    AWAY_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    workers: _containers.RepeatedScalarFieldContainer[str]
    dissenters: _containers.RepeatedScalarFieldContainer[str]
    silent: _containers.RepeatedScalarFieldContainer[str]
    weights: str
    manifest: str
    live: int
    passed_over: _containers.RepeatedScalarFieldContainer[str]
    away: int
    absent: _containers.RepeatedScalarFieldContainer[str]
    refused: _containers.RepeatedCompositeFieldContainer[Loss]
    def __init__(self, workers: _Optional[_Iterable[str]] = ..., dissenters: _Optional[_Iterable[str]] = ..., silent: _Optional[_Iterable[str]] = ..., weights: _Optional[str] = ..., manifest: _Optional[str] = ..., live: _Optional[int] = ..., passed_over: _Optional[_Iterable[str]] = ..., away: _Optional[int] = ..., absent: _Optional[_Iterable[str]] = ..., refused: _Optional[_Iterable[_Union[Loss, _Mapping]]] = ...) -> None: ...

class Loss(_message.Message):
    __slots__ = ("worker", "reason", "live")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    worker: str
    reason: str
    live: int
    def __init__(self, worker: _Optional[str] = ..., reason: _Optional[str] = ..., live: _Optional[int] = ...) -> None: ...

class Motion(_message.Message):
    __slots__ = ("worker",)
    WORKER_FIELD_NUMBER: _ClassVar[int]
    worker: str
    def __init__(self, worker: _Optional[str] = ...) -> None: ...

class Waiting(_message.Message):
    __slots__ = ("live", "wanted", "absent")
    LIVE_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    live: int
    wanted: int
    absent: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, live: _Optional[int] = ..., wanted: _Optional[int] = ..., absent: _Optional[_Iterable[str]] = ...) -> None: ...

class Dismissal(_message.Message):
    __slots__ = ("context", "reason", "epoch")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    context: Context
    reason: str
    epoch: int
    def __init__(self, context: _Optional[_Union[Context, _Mapping]] = ..., reason: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class PullRequest(_message.Message):
    __slots__ = ("context", "model", "offset")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    context: Context
    model: str
    offset: int
    def __init__(self, context: _Optional[_Union[Context, _Mapping]] = ..., model: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("transfer", "chunk")
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    transfer: Transfer
    chunk: Chunk
    def __init__(self, transfer: _Optional[_Union[Transfer, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ...) -> None: ...

class Transfer(_message.Message):
    __slots__ = ("context", "kind", "manifest", "nbytes", "examples", "metrics", "model", "clip", "image", "exponents", "digest", "start")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    NBYTES_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CLIP_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    EXPONENTS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    context: Context
    kind: Kind
    manifest: str
    nbytes: int
    examples: int
    metrics: str
    model: str
    clip: float
    image: str
    exponents: _containers.RepeatedScalarFieldContainer[int]
    digest: str
    start: int
    def __init__(self, context: _Optional[_Union[Context, _Mapping]] = ..., kind: _Optional[_Union[Kind, str]] = ..., manifest: _Optional[str] = ..., nbytes: _Optional[int] = ..., examples: _Optional[int] = ..., metrics: _Optional[str] = ..., model: _Optional[str] = ..., clip: _Optional[float] = ..., image: _Optional[str] = ..., exponents: _Optional[_Iterable[int]] = ..., digest: _Optional[str] = ..., start: _Optional[int] = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("offset",)
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    def __init__(self, offset: _Optional[int] = ...) -> None: ...

class RecallRequest(_message.Message):
    __slots__ = ("context",)
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    context: Context
    def __init__(self, context: _Optional[_Union[Context, _Mapping]] = ...) -> None: ...

class Recalled(_message.Message):
    __slots__ = ("rounds",)
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    rounds: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, rounds: _Optional[_Iterable[int]] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("offset", "crc32c", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    crc32c: int
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., crc32c: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class MeasureRequest(_message.Message):
    __slots__ = ("context", "model", "metrics")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    context: Context
    model: str
    metrics: str
    def __init__(self, context: _Optional[_Union[Context, _Mapping]] = ..., model: _Optional[str] = ..., metrics: _Optional[str] = ...) -> None: ...

class MemberMessage(_message.Message):
    __slots__ = ("context", "ready", "advertisement", "shares", "signature", "unmasking", "masked")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    ADVERTISEMENT_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    UNMASKING_FIELD_NUMBER: _ClassVar[int]
    MASKED_FIELD_NUMBER: _ClassVar[int]
    context: Context
    ready: Ready
    advertisement: Advertisement
    shares: SealedShares
    signature: Signature
    unmasking: Shares
    masked: Masked
    def __init__(self, context: _Optional[_Union[Context, _Mapping]] = ..., ready: _Optional[_Union[Ready, _Mapping]] = ..., advertisement: _Optional[_Union[Advertisement, _Mapping]] = ..., shares: _Optional[_Union[SealedShares, _Mapping]] = ..., signature: _Optional[_Union[Signature, _Mapping]] = ..., unmasking: _Optional[_Union[Shares, _Mapping]] = ..., masked: _Optional[_Union[Masked, _Mapping]] = ...) -> None: ...

class HostMessage(_message.Message):
    __slots__ = ("opening", "roster", "dealt", "survivors", "agreement")
    OPENING_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    DEALT_FIELD_NUMBER: _ClassVar[int]
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    opening: Opening
    roster: Roster
    dealt: SealedShares
    survivors: Survivors
    agreement: Agreement
    def __init__(self, opening: _Optional[_Union[Opening, _Mapping]] = ..., roster: _Optional[_Union[Roster, _Mapping]] = ..., dealt: _Optional[_Union[SealedShares, _Mapping]] = ..., survivors: _Optional[_Union[Survivors, _Mapping]] = ..., agreement: _Optional[_Union[Agreement, _Mapping]] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ("model", "schema", "image", "context", "advertisement", "returns")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    ADVERTISEMENT_FIELD_NUMBER: _ClassVar[int]
    RETURNS_FIELD_NUMBER: _ClassVar[int]
    model: str
    schema: str
    image: str
    context: bytes
    advertisement: Advertisement
    returns: bool
    def __init__(self, model: _Optional[str] = ..., schema: _Optional[str] = ..., image: _Optional[str] = ..., context: _Optional[bytes] = ..., advertisement: _Optional[_Union[Advertisement, _Mapping]] = ..., returns: _Optional[bool] = ...) -> None: ...

class Opening(_message.Message):
    __slots__ = ("purpose", "exponents", "schema", "bucket", "uncounted")
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    EXPONENTS_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    UNCOUNTED_FIELD_NUMBER: _ClassVar[int]
    purpose: str
    exponents: _containers.RepeatedScalarFieldContainer[int]
    schema: str
    bucket: int
    uncounted: bool
    def __init__(self, purpose: _Optional[str] = ..., exponents: _Optional[_Iterable[int]] = ..., schema: _Optional[str] = ..., bucket: _Optional[int] = ..., uncounted: _Optional[bool] = ...) -> None: ...

class Advertisement(_message.Message):
    __slots__ = ("worker", "mask_key", "seal_key", "commitment", "certificate", "signature", "organisation", "endorsement")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    MASK_KEY_FIELD_NUMBER: _ClassVar[int]
    SEAL_KEY_FIELD_NUMBER: _ClassVar[int]
    COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    ORGANISATION_FIELD_NUMBER: _ClassVar[int]
    ENDORSEMENT_FIELD_NUMBER: _ClassVar[int]
    worker: int
    mask_key: bytes
    seal_key: bytes
    commitment: bytes
    certificate: bytes
    signature: bytes
    organisation: bytes
    endorsement: bytes
    def __init__(self, worker: _Optional[int] = ..., mask_key: _Optional[bytes] = ..., seal_key: _Optional[bytes] = ..., commitment: _Optional[bytes] = ..., certificate: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., organisation: _Optional[bytes] = ..., endorsement: _Optional[bytes] = ...) -> None: ...

class Roster(_message.Message):
    __slots__ = ("candidates", "members", "root", "entries", "proofs")
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    PROOFS_FIELD_NUMBER: _ClassVar[int]
    candidates: _containers.RepeatedScalarFieldContainer[int]
    members: _containers.RepeatedScalarFieldContainer[int]
    root: bytes
    entries: _containers.RepeatedCompositeFieldContainer[Advertisement]
    proofs: _containers.RepeatedCompositeFieldContainer[Proof]
    def __init__(self, candidates: _Optional[_Iterable[int]] = ..., members: _Optional[_Iterable[int]] = ..., root: _Optional[bytes] = ..., entries: _Optional[_Iterable[_Union[Advertisement, _Mapping]]] = ..., proofs: _Optional[_Iterable[_Union[Proof, _Mapping]]] = ...) -> None: ...

class Proof(_message.Message):
    __slots__ = ("hashes",)
    HASHES_FIELD_NUMBER: _ClassVar[int]
    hashes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, hashes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class SealedShares(_message.Message):
    __slots__ = ("shares",)
    class SharesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: bytes
        def __init__(self, key: _Optional[int] = ..., value: _Optional[bytes] = ...) -> None: ...
    SHARES_FIELD_NUMBER: _ClassVar[int]
    shares: _containers.ScalarMap[int, bytes]
    def __init__(self, shares: _Optional[_Mapping[int, bytes]] = ...) -> None: ...

class Masked(_message.Message):
    __slots__ = ("crc32c", "data")
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    crc32c: int
    data: bytes
    def __init__(self, crc32c: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class Survivors(_message.Message):
    __slots__ = ("workers",)
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    workers: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, workers: _Optional[_Iterable[int]] = ...) -> None: ...

class Signature(_message.Message):
    __slots__ = ("signature",)
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    signature: bytes
    def __init__(self, signature: _Optional[bytes] = ...) -> None: ...

class Agreement(_message.Message):
    __slots__ = ("signatures",)
    class SignaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: bytes
        def __init__(self, key: _Optional[int] = ..., value: _Optional[bytes] = ...) -> None: ...
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    signatures: _containers.ScalarMap[int, bytes]
    def __init__(self, signatures: _Optional[_Mapping[int, bytes]] = ...) -> None: ...

class Shares(_message.Message):
    __slots__ = ("seeds", "mask_keys", "spoilt")
    class SeedsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: bytes
        def __init__(self, key: _Optional[int] = ..., value: _Optional[bytes] = ...) -> None: ...
    class MaskKeysEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: bytes
        def __init__(self, key: _Optional[int] = ..., value: _Optional[bytes] = ...) -> None: ...
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    MASK_KEYS_FIELD_NUMBER: _ClassVar[int]
    SPOILT_FIELD_NUMBER: _ClassVar[int]
    seeds: _containers.ScalarMap[int, bytes]
    mask_keys: _containers.ScalarMap[int, bytes]
    spoilt: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, seeds: _Optional[_Mapping[int, bytes]] = ..., mask_keys: _Optional[_Mapping[int, bytes]] = ..., spoilt: _Optional[_Iterable[int]] = ...) -> None: ...

class ObserveRequest(_message.Message):
    __slots__ = ("context",)
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    context: Context
    def __init__(self, context: _Optional[_Union[Context, _Mapping]] = ...) -> None: ...

class Observation(_message.Message):
    __slots__ = ("standing", "closed", "ending", "more")
    STANDING_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    ENDING_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    standing: Standing
    closed: _containers.RepeatedScalarFieldContainer[str]
    ending: Ending
    more: bool
    def __init__(self, standing: _Optional[_Union[Standing, _Mapping]] = ..., closed: _Optional[_Iterable[str]] = ..., ending: _Optional[_Union[Ending, _Mapping]] = ..., more: _Optional[bool] = ...) -> None: ...

class Standing(_message.Message):
    __slots__ = ("round", "rounds", "attempt", "phase", "live", "expected", "selected", "reported", "dropped", "notice", "privacy")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    SELECTED_FIELD_NUMBER: _ClassVar[int]
    REPORTED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    PRIVACY_FIELD_NUMBER: _ClassVar[int]
    round: int
    rounds: int
    attempt: int
    phase: str
    live: int
    expected: int
    selected: _containers.RepeatedScalarFieldContainer[str]
    reported: _containers.RepeatedScalarFieldContainer[str]
    dropped: _containers.RepeatedCompositeFieldContainer[Loss]
    notice: str
    privacy: Privacy
    def __init__(self, round: _Optional[int] = ..., rounds: _Optional[int] = ..., attempt: _Optional[int] = ..., phase: _Optional[str] = ..., live: _Optional[int] = ..., expected: _Optional[int] = ..., selected: _Optional[_Iterable[str]] = ..., reported: _Optional[_Iterable[str]] = ..., dropped: _Optional[_Iterable[_Union[Loss, _Mapping]]] = ..., notice: _Optional[str] = ..., privacy: _Optional[_Union[Privacy, _Mapping]] = ...) -> None: ...

class Privacy(_message.Message):
    __slots__ = ("epsilon", "delta", "budget", "unit", "neighbours", "adversary", "epsilon_covers")
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    ADVERSARY_FIELD_NUMBER: _ClassVar[int]
    EPSILON_COVERS_FIELD_NUMBER: _ClassVar[int]
    epsilon: float
    delta: float
    budget: float
    unit: str
    neighbours: str
    adversary: str
    epsilon_covers: str
    def __init__(self, epsilon: _Optional[float] = ..., delta: _Optional[float] = ..., budget: _Optional[float] = ..., unit: _Optional[str] = ..., neighbours: _Optional[str] = ..., adversary: _Optional[str] = ..., epsilon_covers: _Optional[str] = ...) -> None: ...

class Ending(_message.Message):
    __slots__ = ("complete", "reason", "message", "model", "recurs")
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RECURS_FIELD_NUMBER: _ClassVar[int]
    complete: bool
    reason: str
    message: str
    model: str
    recurs: bool
    def __init__(self, complete: _Optional[bool] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., model: _Optional[str] = ..., recurs: _Optional[bool] = ...) -> None: ...

class SteerRequest(_message.Message):
    __slots__ = ("context", "finish")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    context: Context
    finish: Finish
    def __init__(self, context: _Optional[_Union[Context, _Mapping]] = ..., finish: _Optional[_Union[Finish, _Mapping]] = ...) -> None: ...

class Finish(_message.Message):
    __slots__ = ("round",)
    ROUND_FIELD_NUMBER: _ClassVar[int]
    round: int
    def __init__(self, round: _Optional[int] = ...) -> None: ...
