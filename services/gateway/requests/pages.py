"""The pages of ListVoices."""

from __future__ import annotations

import re

from csm.v1 import tts_pb2

from services.gateway.requests.violations import Violations

MAX_VOICES_PER_PAGE = 100

_PAGE_TOKEN = re.compile(r"[0-9]{0,9}")


def requested_page(request: tts_pb2.ListVoicesRequest) -> tuple[int, int]:
    """First index and size of the requested page. Raises StatusError INVALID_ARGUMENT."""
    violations = Violations()
    if request.page_size < 0:
        violations.wrong("page_size", f"is {request.page_size}; it must not be negative.")
    if not _PAGE_TOKEN.fullmatch(request.page_token):
        violations.wrong("page_token", "is not a `next_page_token` that an earlier response returned.")
    violations.raise_if_any()
    size = min(request.page_size or MAX_VOICES_PER_PAGE, MAX_VOICES_PER_PAGE)
    return int(request.page_token or 0), size
