"""What a site insists on, in a file of its security officer: checked before any of the job's code is loaded.

No server and no spec can lower it. How it reads, line by line: docs/how-to/site-policy.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel

from fl_core.environment import IMAGE
from fl_core.errors import MismatchError, ProtocolError
from fl_core.identity import wall_time
from fl_core.images import digest_of, is_reference
from fl_core.plan import Plan
from fl_core.privacy import accountant
from fl_core.privacy.job import NEIGHBOURS, cost_of, mechanism_of, settings_of
from fl_core.secagg.endorsement import NONE, Endorsement, Organisations, endorse
from fl_core.secagg.job import cohort_of, terms_of
from fl_core.secagg.parameters import part_of
from fl_core.secagg.policy import Policy
from fl_core.secagg.signing import UNREADABLE
from fl_core.secagg.terms import Terms

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )


class Bounds(_Part):
    """What a value of the program's config may be."""

    at_least: float | None = None
    at_most: float | None = None
    one_of: tuple[JsonValue, ...] | None = None

    def complaint(self, value: Any) -> str:  # noqa: ANN401 - any JSON value
        """What is wrong with a value; empty where nothing is."""
        if self.one_of is not None and value not in self.one_of:
            return f"{value!r}, which is none of {list(self.one_of)}"
        if self.at_least is None and self.at_most is None:
            return ""
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            return f"{value!r}, which is no finite number"
        if self.at_least is not None and value < self.at_least:
            return f"{value:g}, less than {self.at_least:g}"
        if self.at_most is not None and value > self.at_most:
            return f"{value:g}, more than {self.at_most:g}"
        return ""


class SecureSums(_Part):
    """What sums this site takes part in; where a job has buckets, each is a sum of its own.

    `corrupt` is a share of a round's workers, however few of them are in a sum, and `dropout` of a sum's; without them
    they are the job's.
    """

    required: bool = True
    members: Annotated[int, Field(ge=3)] = 3
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    corrupt: Annotated[float, Field(ge=0, lt=1)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    bits: Literal[16, 32] | None = None

    def policy(self, *, organisations: int = 0, partners: Organisations | None = None) -> Policy:
        """What each session is held to."""
        return Policy(
            members=self.members,
            organisations=organisations,
            threshold=self.threshold,
            corrupt=self.corrupt,
            dropout=self.dropout,
            partners=partners,
        )


def _beside(path: Path, info: ValidationInfo) -> Path:
    """A path in the policy's file is meant from where the file lies."""
    return Path((info.context or {}).get("folder", "")) / path


Beside = Annotated[Path, AfterValidator(_beside)]


class Partners(_Part):
    """The organisations one of which must endorse each member of a sum, and with what this site endorses its worker.

    All files are PEM: an authority's certificate each, then a certificate that one of them issued, and its key.
    """

    at_least: Annotated[int, Field(ge=1)] = 2
    authorities: tuple[Beside, ...]
    certificate: Beside
    key: Beside

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if len(self.authorities) < self.at_least:
            raise ValueError(f"atLeast is {self.at_least}, but there are {len(self.authorities)} authorities")
        return self

    def read(self) -> Organisations:
        """The authorities; MismatchError where a file holds none, or two hold the same."""
        found = [_certificate(path) for path in self.authorities]
        if len(set(found)) < len(found):
            raise MismatchError(f"an authority is named twice: {', '.join(map(str, self.authorities))}")
        return Organisations(found, wall_time)

    def endorse(self, *, job: str, worker: int, own: bytes) -> Endorsement:
        """This site's word for its worker, whose certificate is `own` (DER), as its partners will take it."""
        certificate, key = _certificate(self.certificate), _private_key(self.key)
        if key.public_key() != certificate.public_key():
            raise MismatchError(f"{self.key} is not the key of the certificate {self.certificate}")
        given = endorse(certificate, key, job=job, worker=worker, own=own)
        try:
            self.read().of(given, job=job, worker=worker, own=own)
        except ProtocolError as error:
            raise MismatchError(
                f"the policy's organisations.certificate {self.certificate} does not do: {error}"
            ) from error
        return given


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_pem(path))
    except UNREADABLE as error:
        raise MismatchError(f"{path} is no certificate in PEM: {error}") from error


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(_pem(path), password=None)
    except (ValueError, TypeError) as error:
        raise MismatchError(f"{path} is no private key in PEM: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise MismatchError(f"{path} holds no elliptic-curve key")
    return key


def _pem(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MismatchError(f"{path}, which the policy names, cannot be read: {error.strerror}") from error


class PrivateReleases(_Part):
    """How much may be learned of this site from all that a job releases; without differential privacy no job is taken.

    `noise_multiplier` is at least, `clip`, `epsilon` and `delta` are at most. Epsilon is reckoned here, from the plan,
    for all of its rounds; no ledger of a server is believed.
    """

    mechanisms: tuple[str, ...] | None = None
    noise_multiplier: Annotated[float, Field(gt=0)] | None = None
    clip: Annotated[float, Field(gt=0)] | None = None
    epsilon: Annotated[float, Field(gt=0)] | None = None
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None
    metrics: Literal["Released", "Suppressed"] = "Released"

    def complaints(
        self, plan: Plan, *, corrupt: float | None = None, dimension: int | None = None
    ) -> Iterator[str]:
        """What this site does not accept of a job whose model has so many values, if that is known by now.

        `corrupt` is the share of a round's workers that may be in league with the server, where the site counts itself.
        """
        own = plan.privacy
        if own is None:
            yield "spec.privacy is not given; this site demands differential privacy"
            return
        mechanism, name = mechanism_of(plan), own.mechanism.name
        if self.mechanisms is not None and name not in self.mechanisms:
            yield f"spec.privacy.mechanism.name is {name}; this site demands one of {', '.join(self.mechanisms)}"
        if self.noise_multiplier is not None and mechanism.noise_multiplier < self.noise_multiplier:
            yield (
                f"spec.privacy.mechanism.noiseMultiplier is {mechanism.noise_multiplier:g}; this site demands at least "
                f"{self.noise_multiplier:g}"
            )
        if self.metrics == "Suppressed" and own.measured:
            yield "spec.privacy.metrics is Released; this site demands Suppressed"
        if self.clip is not None and own.adaptive_clip is not None:
            yield f"spec.privacy.adaptiveClip lets the clip norm grow; this site demands at most {self.clip:g}"
        yield from _beyond("spec.privacy.mechanism.clip", mechanism.clip, self.clip)
        yield from _beyond("spec.privacy.budget.delta", own.delta, self.delta)
        yield from _beyond("spec.privacy.budget.epsilon", own.epsilon, self.epsilon)
        if mechanism.noise == "workers":
            yield from _about_parts(plan, corrupt=Terms().corrupt_share if corrupt is None else corrupt)
        yield from self._about_rounds(plan, delta=own.delta, dimension=dimension)

    def _about_rounds(self, plan: Plan, *, delta: float, dimension: int | None) -> Iterator[str]:
        """What all rounds cost, should the server never stop for its budget."""
        if self.epsilon is None:
            return
        cost = cost_of(plan, dimension=dimension)
        spent = accountant.forecast(cost, rounds=plan.rounds, delta=delta, neighbours=NEIGHBOURS)
        if spent <= self.epsilon:
            return
        fit = accountant.rounds_within(cost, budget=self.epsilon, delta=delta, neighbours=NEIGHBOURS)
        yield (
            f"spec.rounds is {plan.rounds}, whose releases come to epsilon {spent:.3g} at delta {delta:g}; this site "
            f"demands at most {self.epsilon:g}, in which {fit} rounds fit"
        )


def _about_parts(plan: Plan, *, corrupt: float) -> Iterator[str]:
    """Of noise that each worker makes a part of: whether it is hidden in a sum, and enough without the corrupt ones."""
    name, borne, asked = settings_of(plan).mechanism.name, settings_of(plan).corrupt, plan.selection.per_round
    if plan.secure_aggregation is None:
        yield f"spec.secureAggregation is off, and under {name} each worker makes a part of the noise only"
    if borne < (counted := part_of(asked, corrupt)):
        yield (
            f"the noise of {name} bears {borne} of {asked} workers in league with the server; this site counts with "
            f"{counted}"
        )


def _beyond(path: str, value: float, most: float | None) -> Iterator[str]:
    if most is not None and value > most:
        yield f"{path} is {value:g}; this site demands at most {most:g}"


def _image(text: str) -> str:
    """A digest or a reference of an image; a digest that is cut short would pass for a reference."""
    whole = _DIGEST.fullmatch(text) if text.startswith("sha256:") else is_reference(text)
    if not whole:
        raise ValueError(f"{text!r} is neither an image's reference nor sha256: and 64 digits (0-9, a-f)")
    return text


class SitePolicy(_Part):
    """The whole file; what is not in it is not asked for."""

    secure_aggregation: SecureSums = SecureSums()
    organisations: Partners | None = None
    privacy: PrivateReleases | None = None
    programs: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...] | None = None
    images: tuple[Annotated[str, AfterValidator(_image)], ...] | None = None
    config: dict[str, Bounds] = Field(default_factory=dict)
    _path: Path | None = PrivateAttr(default=None)

    def model_post_init(self, context: Any) -> None:  # noqa: ANN401 - pydantic's
        """Know the file, to name it."""
        self._path = (context or {}).get("path")

    @classmethod
    def read(cls, path: Path) -> SitePolicy:
        """Read a policy file; one that cannot be read is not taken for an empty one."""
        try:
            text = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            return cls.model_validate(text, context={"folder": path.parent, "path": path})
        except OSError as error:
            raise MismatchError(f"the policy {path} cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise MismatchError(f"the policy {path} is no YAML: {error}") from error
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
            raise MismatchError(f"the policy {path} is wrong: {'; '.join(lines)}") from error

    def sums(self) -> Policy:
        """The part that each session is held to; MismatchError where an authority's file cannot be read."""
        own, others = self.secure_aggregation, self.organisations
        return own.policy(organisations=others.at_least, partners=others.read()) if others else own.policy()

    def endorsement(self, *, job: str, worker: int, own: bytes) -> Endorsement:
        """This site's word for its worker, empty where the policy names no organisations."""
        others = self.organisations
        return others.endorse(job=job, worker=worker, own=own) if others else NONE

    def check(self, plan: Plan, *, image: str = "") -> None:
        """Refuse a job that this site takes no part in, before its program is loaded; `image` is this worker's own."""
        share = self.secure_aggregation.corrupt
        private = self.privacy.complaints(plan, corrupt=share) if self.privacy is not None else ()
        self._refuse(
            [*self._about_sums(plan), *private, *self._about_program(plan), *self._about_image(image)]
        )

    def check_cost(self, plan: Plan, *, dimension: int) -> None:
        """Refuse a job whose rounds cost too much, now that its model is known to have so many values."""
        if self.privacy is not None:
            share = self.secure_aggregation.corrupt
            self._refuse([*self.privacy.complaints(plan, corrupt=share, dimension=dimension)])

    def _about_sums(self, plan: Plan) -> list[str]:
        own, secure = self.secure_aggregation, plan.secure_aggregation
        if secure is None:
            return ["spec.secureAggregation is off"] if own.required else []
        complaints = []
        cohort, terms = cohort_of(plan), terms_of(plan)
        if (members := terms.minimum) < own.members:
            whose = f"a sum of one of {secure.buckets} buckets (spec.secureAggregation.buckets) opens with"
            what = "spec.selection.minimum is" if secure.buckets == 1 else whose
            complaints.append(f"{what} {members}, fewer than {own.members}")
        if own.bits is not None and secure.bits != own.bits:
            complaints.append(f"spec.secureAggregation.bits is {secure.bits}; this site demands {own.bits}")
        whole = secure.buckets == 1
        complaints += self._about_agreement(terms, cohort, whole=whole)
        return [*complaints, *self._about_sizes(terms, cohort, whole=whole)]

    def _about_agreement(self, terms: Terms, cohort: int, *, whole: bool) -> Iterator[str]:
        """The largest sum for which too few must agree, of all or of as few as may come: it would be declined."""
        share = self.secure_aggregation.threshold
        sums = terms.sessions(cohort) if share else ()
        if size := max((made.n for made in sums if terms.agreeing(made.n) < share * made.n), default=0):
            fewer = f"a sum of {size} opens when {terms.agreeing(size)} agree, less than a share of {share:g}"
            yield fewer + _cure(size, cohort, whole=whole)

    def _about_sizes(self, terms: Terms, cohort: int, *, whole: bool) -> Iterator[str]:
        """The largest sum whose parameters are too weak, of all or of as few as may come: it would be declined."""
        own, size = self.secure_aggregation.policy(), cohort
        fewer = [made for made in terms.sessions(cohort) if made.n < cohort] if own.counts else []
        try:
            for made in (terms.parameters(cohort), *reversed(fewer)):
                size = made.n
                own.check_parameters(terms, made)
        except ProtocolError as error:
            yield f"a sum of {size}: {error}{_cure(size, cohort, whole=whole)}"

    def _about_program(self, plan: Plan) -> list[str]:
        complaints = []
        digest = plan.program.sha256
        if self.programs is not None and digest not in self.programs:
            complaints.append(
                f"the program's digest is {digest or 'not given'}, which is none of those allowed"
            )
        for name, bounds in self.config.items():
            if name not in plan.program.config:
                complaints.append(f"spec.program.config.{name} is not given")
            elif wrong := bounds.complaint(plan.program.config[name]):
                complaints.append(f"spec.program.config.{name} is {wrong}")
        return complaints

    def _about_image(self, image: str) -> Iterator[str]:
        """The worker's own word for its image, as a reference or by its digest alone."""
        if self.images is None or {image, f"sha256:{digest_of(image)}"} & set(self.images):
            return
        told = f"this worker's image is {image} ({IMAGE})"
        unknown = f"nobody says which image this worker runs in ({IMAGE} is not set)"
        yield f"{told if image else unknown}; images allows {', '.join(self.images) or 'none'}"

    def _refuse(self, complaints: list[str]) -> None:
        if complaints:
            whose = f"this site's policy {self._path or ''}".rstrip()
            raise MismatchError(f"{whose} refuses the job: {'; '.join(complaints)}")


def _cure(size: int, cohort: int, *, whole: bool) -> str:
    """What keeps sums of that size and fewer from beginning, where that is for `selection.minimum` to say."""
    told = f"; with spec.selection.minimum: {size + 1} there is no such sum"
    return told if whole and size < cohort else ""


OPEN_POLICY = SitePolicy(secure_aggregation=SecureSums(required=False, threshold=0))
"""A site that insists on nothing beyond the protocol."""
