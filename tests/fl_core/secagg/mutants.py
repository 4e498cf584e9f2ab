"""Protocols of secure sums that are broken in one place each, for searches that must find it."""

from __future__ import annotations

import pytest

from fl_core.secagg.messages import Agreement, Unmasking
from fl_core.secagg.session import Session
from fl_core.secagg.signing import AuthorityTrust
from fl_core.secagg.worker import Member, Step
from fl_worker.memory import FileMemory


def no_signature_check(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AuthorityTrust, "check", lambda *_, **__: None)


def no_memory_of_survivors(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FileMemory, "sign", lambda *_: None)


def content_is_not_bound(patch: pytest.MonkeyPatch) -> None:
    real = FileMemory.bind
    patch.setattr(FileMemory, "bind", lambda self, where, candidacy, _: real(self, where, candidacy, b""))


def ranges_are_told_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FileMemory, "_tellers", lambda *_: [])


def unmasking_twice(patch: pytest.MonkeyPatch) -> None:
    real = Member.unmask

    def again(self: Member, agreement: Agreement) -> Unmasking:
        self.step = Step.SIGNED if self.step == Step.DONE else self.step
        return real(self, agreement)

    patch.setattr(Member, "unmask", again)


def live_and_dead(patch: pytest.MonkeyPatch) -> None:
    real = Member.unmask

    def both(self: Member, agreement: Agreement) -> Unmasking:
        answer = real(self, agreement)
        seeds = dict(answer.seeds)
        for other in answer.mask_keys:
            seeds[other] = self._opened(self._joined, other)[0]
        return Unmasking(seeds, answer.mask_keys)

    patch.setattr(Member, "unmask", both)


def half_a_threshold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Session, "threshold", property(lambda self: max(2, len(self.candidates) // 2)))


MUTANTS = [
    no_signature_check,
    no_memory_of_survivors,
    content_is_not_bound,
    ranges_are_told_twice,
    unmasking_twice,
    live_and_dead,
    half_a_threshold,
]
