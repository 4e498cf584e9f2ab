"""Where secrets come from: a function that gives so many unpredictable bytes.

Production passes `os.urandom`. The job's seed, which everybody knows, never gets here: a secret that can be computed
again is none.
"""

from __future__ import annotations

from collections.abc import Callable

Random = Callable[[int], bytes]
