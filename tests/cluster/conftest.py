"""The tests of this folder have a cluster; `make test-cluster` gives them one."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from harness.fixtures import _level, cluster, namespace  # noqa: F401  # for pytest
from tests.cluster.lab import installed, lab  # noqa: F401  # for pytest
from tests.cluster.tenant import chart, tenant  # noqa: F401  # for pytest
