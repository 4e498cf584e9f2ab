"""What keeps a cluster from coming up, each in one sentence that says what to do.

HarnessError
├── MissingError       this machine lacks something: a test is skipped
└── NotReadyError      a component did not come up: its log says why
"""

from __future__ import annotations


class HarnessError(Exception):
    """A cluster cannot be had."""


class MissingError(HarnessError):
    """This machine cannot run what was asked; the message says what to install."""


class NotReadyError(HarnessError):
    """A component did not come up; the message ends with the end of its log."""
