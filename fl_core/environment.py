"""What a pod tells the process in it, by the names of environment variables."""

from __future__ import annotations

from typing import Final

POD: Final = "FLJOB_POD"
"""The uid of a server's pod, in which it may be started several times."""

IMAGE: Final = "FLJOB_IMAGE"
"""The image that the pod asks for, with a digest only where that has one; the server's record names it."""
