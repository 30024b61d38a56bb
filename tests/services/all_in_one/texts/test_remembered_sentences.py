"""A long text reuses keys and values, and goes on at another engine with the same speech. Two real engines."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import grpc
from csm.v1 import tts_pb2, tts_pb2_grpc

from csm_engine.scheduling.sequence import Sequence
from services.gateway.settings import GatewaySettings
from services.gateway.stage import start_gateway
from tests.services.all_in_one.test_survival import LOCAL, Deployment
from tests.services.all_in_one.texts.engines import FRAMES, SEALED
from tests.services.gateway.rpc.checkpoints.texts import Received, ResumePoint, receive
from tests.support.fake_deployment import stage_targets
from tests.support.waits import eventually

SENTENCES = [f"This is {number}." for number in "one two three four five six seven eight nine ten".split()]


async def test_a_long_text_computes_at_most_one_earlier_sentence_again(
    deployment: Deployment, ended: list[Sequence], asked: tts_pb2.StreamSynthesizeRequest
) -> None:
    """A sentence prefills its own text and the end of the one before; every third one also a sentence of context."""
    await receive(deployment.stub, asked, [" ".join(SENTENCES)])
    await eventually(lambda: len(ended) == len(SENTENCES))
    computed = [len(sequence.prompt) - sequence.reused for sequence in ended]
    own = [
        sequence.prompt.text_token_count + 1 for sequence in ended
    ]  # the last frame of a sentence at its limit has no keys yet
    most = [own[0], *(before + FRAMES + after + 1 for before, after in pairwise(own))]
    anew = [number for number in range(1, 10) if computed[number] > own[number] + 2]
    assert anew == [4, 7]
    assert all(spent <= limit for spent, limit in zip(computed, most, strict=True))
    assert max(len(sequence.prompt) for sequence in ended) > 2 * max(computed)


async def test_a_text_resumed_at_another_gateway_is_the_same_at_every_sentence_of_a_block(
    deployment: Deployment, ended: list[Sequence], asked: tts_pb2.StreamSynthesizeRequest, tmp_path: Path
) -> None:
    text = [" ".join(SENTENCES[:8])]
    whole = await receive(deployment.stub, asked, text)
    assert len(whole.after_sentences) == 8
    stages = [[stage.server for stage in of] for of in (deployment.engines, deployment.codecs)]
    settings = LOCAL | SEALED | stage_targets(*stages) | {"code_sealing_keyring": tmp_path / "seals.json"}
    other = await start_gateway(GatewaySettings(**settings))
    try:
        await other.wait_ready()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{other.server.port}") as channel:
            stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
            for point in whole.after_sentences[2:6]:
                rest = await receive(stub, asked, text, point)
                check_resumes(whole, point, rest)
    finally:
        await other.stop()
    await eventually(lambda: len(ended) == 8 + 5 + 4 + 3 + 2)
    prompts = [sequence.prompt.rows.tobytes() for sequence in ended]
    assert set(prompts[8:]) == set(prompts[3:8])


def check_resumes(whole: Received, point: ResumePoint, rest: Received) -> None:
    assert rest.header.resumed_sentence_count == rest.header.first_sentence_index == len(point.sentence_states)
    assert rest.content == whole.content[point.num_bytes :] and rest.content
    assert rest.summary.watermark == whole.summary.watermark
