"""The front ends, loaded once."""

from __future__ import annotations

import pytest

from csm_text.frontend import NAMES, FrontEnd, load


@pytest.fixture(scope="session", params=NAMES)
def front_end(request: pytest.FixtureRequest) -> FrontEnd:
    """Every front end: tests with this fixture hold for all of them."""
    return load(request.param)
