"""The front ends, loaded once."""

from __future__ import annotations

import pytest

from csm_text.frontend import NAMES, FrontEnd, load


@pytest.fixture(scope="session", params=NAMES)
def front_end(request: pytest.FixtureRequest) -> FrontEnd:
    """Each of them: what a test does not ask for by name is the same with all."""
    return load(request.param)
