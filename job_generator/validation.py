"""A rule in CEL as a custom resource definition holds it (KEP-2876), and the kinds of rules that come often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

INVALID: Final = "FieldValueInvalid"
FORBIDDEN: Final = "FieldValueForbidden"
REQUIRED: Final = "FieldValueRequired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """One rule: where it stands, what must hold, the sentence when it does not, the field to blame."""

    at: tuple[str, ...] = ()
    rule: str
    message: str
    values: str = ""
    plain: str = ""
    """What is said where the API server cannot format `values`; a rule with values needs it."""

    field: str
    reason: str = INVALID

    def document(self) -> dict[str, Any]:
        """The rule as a CRD holds it; with `values` the message is a format for them."""
        told = {"message": self.message}
        if self.values:
            told = {"message": self.plain, "messageExpression": f"'{self.message}'.format([{self.values}])"}
        return {
            "rule": self.rule,
            **told,
            "fieldPath": f".{self.field}",
            "reason": self.reason,
        }


def of_kinds(owners: dict[str, list[str]], needs: dict[str, list[str]]) -> list[dict[str, Any]]:
    """The rules of a strategy, rule, policy or stage: which names a field belongs to, and which need it."""
    own = [
        Validation(
            rule=f"!has(self.{field}) || self.name in [{_quoted(names)}] || self.name.contains(':')",
            message=f"{field} belongs to {', '.join(names)} only",
            field=field,
            reason=FORBIDDEN,
        )
        for field, names in owners.items()
    ]
    needed = [
        Validation(
            rule=f"self.name != '{name}' || has(self.{field})",
            message=f"{name} needs {field}",
            field=field,
            reason=REQUIRED,
        )
        for name, fields in needs.items()
        for field in fields
    ]
    return [one.document() for one in (*own, *needed)]


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def fixed(*fields: str, at: tuple[str, ...] = ()) -> tuple[Validation, ...]:
    """Fields that stay as they were when the job was created."""
    return tuple(
        Validation(
            at=at,
            rule=f"has(self.{field}) == has(oldSelf.{field}) && "
            f"(!has(self.{field}) || self.{field} == oldSelf.{field})",
            message=f"{field} cannot be changed; make another job",
            field=field,
            reason=FORBIDDEN,
        )
        for field in fields
    )


def held(role: str) -> Validation:
    """A template, which makes the pods anew and therefore changes only while there are none."""
    now, before = f"self.{role}.template", f"oldSelf.{role}.template"
    return Validation(
        rule=f"self.suspend || (has({now}) == has({before}) && (!has({now}) || {now} == {before}))",
        message="a template can be changed only while the job is suspended",
        field=f"{role}.template",
        reason=FORBIDDEN,
    )
