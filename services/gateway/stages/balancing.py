"""gRPC's own policies that choose an engine for a call. There is no balancer of ours.

A call of a conversation goes by ring hash (gRFC A42, A76): equal keys go to equal replicas, whichever gateway sends
them. A lost replica's keys move to the next replica on the ring, and no others. A new replica takes its share of the
keys. A call without a conversation goes by weighted round robin (gRFC A58), whose weights come from the load reports
that engines send with the end of a call.
"""

from __future__ import annotations

import os
from typing import Any

# gRPC reads it when it makes a channel. Without it, it does not know `requestHashHeader`, and every call fails.
os.environ["GRPC_EXPERIMENTAL_RING_HASH_SET_REQUEST_HASH_KEY"] = "true"

CONVERSATION_HEADER = "csm-conversation"
Key = tuple[tuple[str, str], ...]  # metadata of a call: none, or the header by which the ring chooses a replica

# The largest ring that gRPC makes. The more points a replica has on the ring, the more equal are the shares.
BY_CONVERSATION: dict[str, Any] = {
    "ring_hash_experimental": {
        "minRingSize": 4096,
        "maxRingSize": 4096,
        "requestHashHeader": CONVERSATION_HEADER,
    }
}
# A replica's weight counts from its first report. By default it would be unused for 10 s.
BY_LOAD: dict[str, Any] = {"weighted_round_robin": {"blackoutPeriod": "0s", "weightUpdatePeriod": "0.5s"}}


def conversation_metadata(conversation: str, attempt: int) -> Key:
    """None without a conversation.

    attempt: how many full replicas have refused the call, and faulty ones have failed calls of the conversation. Each
    attempt has a key of its own, so that a conversation whose replica stays full goes to one and the same other
    replica.
    """
    if not conversation:
        return ()
    return ((CONVERSATION_HEADER, conversation if not attempt else f"{conversation}-{attempt}"),)
