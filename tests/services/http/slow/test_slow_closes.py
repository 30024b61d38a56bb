"""Connections that are cut: those that close for too long, and those whose clients answer no probe."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from services.http import cuts
from services.http.cuts import LOST_S, LostClients, SlowCloses, Tcp


class Transport:
    """Closes for ever, unless it is aborted."""

    def __init__(self, *, closes: bool = False) -> None:
        self._closes, self.is_aborted = closes, False

    def is_closing(self) -> bool:
        return self._closes

    def abort(self) -> None:
        self.is_aborted = True


def connection_of(transport: Transport) -> Any:
    return SimpleNamespace(transport=transport)


def test_a_connection_whose_client_does_not_read_to_the_end_is_cut() -> None:
    closing, running = Transport(closes=True), Transport()
    slow_closes, ends = SlowCloses(5.0), [connection_of(closing), connection_of(running)]
    for now_s in (100.0, 104.9):
        slow_closes.cut(ends, now_s)
        assert not closing.is_aborted
    slow_closes.cut(ends, 105.0)
    assert (closing.is_aborted, running.is_aborted) == (True, False)


@pytest.mark.parametrize("waits_for", [Tcp(1, 0, 7), Tcp(0, 1, 7)], ids=["a probe", "audio"])
def test_a_client_that_answers_nothing_is_lost_and_one_that_answers_in_between_is_not(
    waits_for: Tcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    for between, is_lost in ((waits_for, True), (Tcp(0, 0, 7), False), (waits_for._replace(received_count=8), False)):
        transport, lost = Transport(), LostClients(LOST_S)
        for now_s, tcp in ((0.0, waits_for), (LOST_S - 1, between), (LOST_S, waits_for)):
            monkeypatch.setattr(cuts, "read_tcp", lambda _, tcp=tcp: tcp)
            lost.cut([connection_of(transport)], now_s)
        assert transport.is_aborted == is_lost
