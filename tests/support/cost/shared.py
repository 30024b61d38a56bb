"""For tests that share a server of their module."""

from __future__ import annotations

import pytest

# Marks such a test: its event loop is the module's, which is the server's.
SHARED = pytest.mark.asyncio(loop_scope="module")
