"""Conversations that requests continue: the server makes each turn, with the turns before it as context.

Answers come back as codes, so that a server that caches a conversation can find it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import grpc
from csm_client import AsyncClient
from csm_client.requests import Turn

from bench.listeners.workload import PROMPTS

SPEAKERS = 2


async def prepare_conversations(
    channel: grpc.aio.Channel,
    count: int,
    turns: int,
    turn_audio_s: float,
    seed: int,
    deadline_s: float,
    prompts: Sequence[str] = PROMPTS,
) -> list[list[Turn]]:
    """One request after the other. Raises csm_client's errors. turn_audio_s: most audio of a turn"""
    random = Random(f"{seed}/conversations")
    client = AsyncClient("", timeout_s=deadline_s, channel=channel)
    conversations = []
    for _ in range(count):
        said: list[Turn] = []
        for index in range(turns):
            text, speaker = random.choice(prompts), index % SPEAKERS
            stream = client.stream_synthesize(
                text,
                speaker=speaker,
                context=said,
                seed=random.randrange(2**31),
                max_seconds=turn_audio_s,
                return_codes=True,
            )
            speech = await stream.read_all()
            codes = speech.summary.codes
            said.append(Turn(speaker, text, codes=codes if codes.frame_count else None))
        conversations.append(said)
    return conversations
