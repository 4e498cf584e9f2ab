"""What a pod, or a run on one machine, tells the process in it, by the names of environment variables."""

from __future__ import annotations

from typing import Final

POD: Final = "FLJOB_POD"
"""The uid of a server's pod, in which it may be started several times."""

GRACE: Final = "FLJOB_GRACE_SECONDS"
"""How long a worker has from SIGTERM to SIGKILL, in seconds."""

IMAGE: Final = "FLJOB_IMAGE"
"""The image that the pod asks for, with a digest only where that has one; the record names those of a round."""
