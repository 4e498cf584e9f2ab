"""What keeps a cluster from coming up, each in one sentence that says what to do.

HarnessError
├── Missing       this machine lacks something: a test is skipped
└── NotReady      a component did not come up: its log says why
"""

from __future__ import annotations


class HarnessError(Exception):
    """A cluster cannot be had."""


class Missing(HarnessError):
    """This machine cannot run what was asked; the message says what to install."""


class NotReady(HarnessError):
    """A component did not come up; the message ends with the end of its log."""
