"""Finds a replica for a client whose channel finds none. It knows no stage."""

from __future__ import annotations

import time

import grpc

from services.common.rpc.channels.owned_channels import OwnedChannels

ANOTHER_AFTER_S = 1.0  # between two channels that are opened because none finds a replica


class NextChannel:
    """Looks for a replica by another channel while the present one finds none.

    A channel whose name has no address, as that of a headless service without a ready replica, asks for it again after
    longer and longer delays, up to two minutes. A new channel asks at once.
    """

    def __init__(self, channels: OwnedChannels) -> None:
        self._channels = channels
        self._channel: grpc.aio.Channel | None = None
        self._opened_at_s = 0.0

    def instead_of(self, present: grpc.aio.Channel) -> grpc.aio.Channel | None:
        """A channel that has found a replica; None while `present` works, or no replica is found.

        To be called before each call of `present`. Until another channel has found one, calls of `present` fail at
        once, as they should without a replica.
        """
        if not _has_failed(present):
            self.drop()
            return None
        age_s = time.monotonic() - self._opened_at_s
        if self._channel is not None and _has_found(self._channel, age_s):
            found, self._channel = self._channel, None
            return found
        if self._channel is None or (_has_failed(self._channel) and age_s >= ANOTHER_AFTER_S):
            self.drop()
            self._channel, self._opened_at_s = self._channels.open(), time.monotonic()
            self._channel.get_state(try_to_connect=True)
        return None

    def drop(self) -> None:
        """Ends the search."""
        if self._channel is not None:
            self._channels.retire(self._channel)
            self._channel = None


def _has_found(channel: grpc.aio.Channel, age_s: float) -> bool:
    """Whether it is connected, or knows addresses and connects with its first call, as by ring hash: then it is idle,
    as any channel is for the moment in which it begins to ask for addresses.
    """
    state = channel.get_state()
    is_asking = age_s < ANOTHER_AFTER_S
    return state is grpc.ChannelConnectivity.READY or (state is grpc.ChannelConnectivity.IDLE and not is_asking)


def _has_failed(channel: grpc.aio.Channel) -> bool:
    """Whether it finds no replica: its name has no address, or none of them answers."""
    return channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE
