"""The front end, loaded once."""

from __future__ import annotations

import pytest

from csm_text.frontend import FrontEnd, load


@pytest.fixture(scope="session")
def front_end() -> FrontEnd:
    return load("english-phonemes-1")
