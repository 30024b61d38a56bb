"""The context of a sentence depends on the sentences before it only, and not on where the text goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from csm.engine.v1 import engine_pb2
from csm.v1 import tts_pb2

from services.gateway.rpc.checkpoints import texts as texts_module
from services.gateway.rpc.checkpoints import whole_texts as whole_texts_module
from tests.services.gateway.rpc.checkpoints import texts, utterances
from tests.services.gateway.rpc.checkpoints.sealing_gateway import refusal, sealing_gateway
from tests.services.gateway.rpc.checkpoints.texts import Config, CountsByText
from tests.support.fake_deployment import FakeDeployment
from tests.support.text_streams import messages_of

FRAMES = {f"{name}.": 1 + number % 7 for number, name in enumerate(["Ada", "Bo", "Cy", "Di", "Ed", "Flo", "Gus"])}
FRAMES |= {"No sound.": 0, "Hal.": 6, "Ivy.": 2, "Jo.": 5, "Kim.": 7, "Lea.": 6}
TEXT = " ".join(FRAMES)


def prepare(deployment: FakeDeployment) -> None:
    deployment.engine.frame_counts = CountsByText(deployment.engine, FRAMES)  # type: ignore[assignment]


def segments_by_sentence(deployment: FakeDeployment) -> dict[str, list[engine_pb2.Segment]]:
    """The segments of each request to the engine since the last call, by the sentence to speak."""
    asked: dict[str, list[engine_pb2.Segment]] = {
        call.request.segments[-1].text: list(call.request.segments) for call in deployment.engine.calls
    }
    utterances.forget(deployment)
    return asked


@pytest.fixture
def asked(stream_request: Config) -> Config:
    stream_request.stream_config.send_checkpoints = True
    stream_request.sampling_params.seed = 7
    stream_request.context.turns.add(speaker=0, text="Hello?")
    return stream_request


async def test_a_text_in_pieces_has_the_same_contexts_wherever_it_resumes(tmp_path: Path, asked: Config) -> None:
    asked.input.text = ""
    async with sealing_gateway(tmp_path / "seals.json") as (deployment, tts):
        prepare(deployment)
        whole = await texts.receive(tts, asked, [TEXT])
        segments = segments_by_sentence(deployment)
        sounding = [text for text, count in FRAMES.items() if count]
        earlier = [[segment.text for segment in segments[text][1:-1]] for text in sounding]
        assert earlier[:5] == [[], sounding[:1], sounding[:2], sounding[:3], sounding[3:4]]
        assert [len(context) for context in earlier[4:]] == [1, 2, 3, 1, 2, 3, 1, 2]
        assert len(whole.after_sentences) == len(FRAMES)
        for point in whole.points:
            rest = await texts.receive(tts, asked, [TEXT], point)
            assert rest.content == whole.content[point.num_bytes :]
            assert segments_by_sentence(deployment).items() <= segments.items()


async def test_a_whole_text_has_the_same_contexts_wherever_it_resumes(tmp_path: Path, asked: Config) -> None:
    async with sealing_gateway(tmp_path / "seals.json") as (deployment, tts):
        prepare(deployment)
        asked.input.text = ""
        await texts.receive(tts, asked, [TEXT])
        segments = segments_by_sentence(deployment)
        asked.input.text = TEXT
        whole = await utterances.receive(tts, asked)
        assert segments_by_sentence(deployment) == segments
        for count in range(1, len(whole.states) + 1):
            rest = await utterances.receive(tts, asked, whole.states[:count])
            begin = whole.places[count - 1][1] if rest.header.first_sample_offset else 0
            assert rest.content == whole.content[begin:]
            assert segments_by_sentence(deployment).items() <= segments.items()
        await tts.Synthesize(
            tts_pb2.SynthesizeRequest(
                input=asked.input,
                audio_config=asked.audio_config,
                context=asked.context,
                sampling_params=asked.sampling_params,
            )
        )
        assert segments_by_sentence(deployment) == segments


async def test_checkpoints_of_a_gateway_whose_context_slides_are_refused(
    tmp_path: Path, asked: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The speech would go on differently. Its checkpoints have only the number of sentences of a context."""
    in_pieces = Config()
    in_pieces.CopyFrom(asked)
    in_pieces.input.text, asked.input.text = "", TEXT
    async with sealing_gateway(tmp_path / "seals.json") as (deployment, tts):
        prepare(deployment)
        with monkeypatch.context() as patch:
            for module in (texts_module, whole_texts_module):
                patch.setattr(module, "context_rule", int)
            of_pieces = (await texts.receive(tts, in_pieces, [TEXT])).states
            of_whole = (await utterances.receive(tts, asked)).states
        reason = "CHECKPOINT_OTHER_REQUEST"
        field = "stream_config.checkpoints"
        asked.stream_config.checkpoints.extend(of_whole[:3])
        assert await refusal(tts.StreamSynthesize(asked)) == (f"{field}[0]", reason)
        in_pieces.stream_config.checkpoints.extend(of_pieces[:3])
        call: Any = tts.StreamSynthesizeText(messages_of(in_pieces, [TEXT]))
        assert await refusal(call) == (f"config.{field}[0]", reason)
