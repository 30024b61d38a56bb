"""The pages of ListVoices."""

from __future__ import annotations

from csm.v1 import tts_pb2

from services.gateway.requests.violations import Violations
from services.gateway.voices.place import Place

MAX_VOICES_PER_PAGE = 100


def requested_page(request: tts_pb2.ListVoicesRequest) -> tuple[Place, int]:
    """Start and size of the requested page. Raises StatusError INVALID_ARGUMENT."""
    violations = Violations()
    if request.page_size < 0:
        violations.wrong("page_size", f"is {request.page_size}; it must not be negative.")
    start = Place.of(request.page_token)
    if start is None:
        violations.wrong("page_token", "is not a `next_page_token` that an earlier response returned.")
    violations.raise_if_any()
    size = min(request.page_size or MAX_VOICES_PER_PAGE, MAX_VOICES_PER_PAGE)
    return start or Place(), size
