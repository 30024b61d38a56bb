"""When a lost stream is asked for again, how often and until when."""

from __future__ import annotations

import grpc
import pytest
from csm.v1 import tts_pb2
from csm_client.errors import ErrorDetails, ServerError
from csm_client.requests import LARGE_BYTES, size_metadata
from csm_client.resuming import resumes as resumes_module
from csm_client.resuming.reader import SpeechReader
from csm_client.resuming.resumes import NextCall, Resumes, call_options
from csm_client.text_writer import TextWriter

CODES = grpc.StatusCode
LOSS = ServerError(CODES.UNAVAILABLE, "lost", ErrorDetails())
CUT_OFF_WRITE = ServerError(CODES.INTERNAL, "Internal error from Core", ErrorDetails())


class Clock:
    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(resumes_module, "time", clock)
    return clock


def reader_of(samples: int = 7) -> SpeechReader:
    """Has heard so many samples of a stream whose seed is 5."""
    reader = SpeechReader()
    reader.accept(tts_pb2.StreamSynthesizeResponse(header=tts_pb2.SynthesisHeader(seed=5)))
    chunk = tts_pb2.AudioChunk(audio_content=bytes(2 * samples), sample_count=samples)
    reader.accept(tts_pb2.StreamSynthesizeResponse(audio_chunk=chunk))
    return reader


def request() -> tts_pb2.StreamSynthesizeRequest:
    return tts_pb2.StreamSynthesizeRequest()


def test_resumes_are_limited_and_back_off_within_one_deadline(clock: Clock) -> None:
    asked = request()
    resumes, reader = Resumes(asked, 3, timeout_s=10.0), reader_of()
    calls = []
    for _ in range(4):
        clock.now_s += 2.0
        calls.append(resumes.after(LOSS, reader))
    found = [None if call is None else (round(call.delay_s, 3), round(call.timeout_s, 3)) for call in calls]
    assert found == [(0.1, 7.9), (0.2, 5.8), (0.4, 3.6), None]
    assert (asked.sampling_params.seed, asked.stream_config.heard_sample_count) == (5, 7)


def test_a_stream_waits_as_long_as_a_server_asks_for_and_no_longer_than_two_seconds(clock: Clock) -> None:
    resumes, reader = Resumes(request(), 10, timeout_s=100.0), reader_of()
    for asked_s, waits_s in ((1.5, 1.5), (30.0, 2.0), (None, 0.4), (None, 0.8), (None, 1.6), (None, 2.0)):
        after = resumes.after(ServerError(CODES.UNAVAILABLE, "lost", ErrorDetails(retry_delay_s=asked_s)), reader)
        assert after is not None and after.delay_s == pytest.approx(waits_s)


def test_losses_minutes_apart_do_not_use_up_the_resumes(clock: Clock) -> None:
    resumes, reader = Resumes(request(), 3, timeout_s=3600.0), reader_of()
    for _ in range(10):
        clock.now_s += resumes_module.RECENT_S
        reader.sample_count += 1
        found = [resumes.after(LOSS, reader) for _ in range(2)]
        assert [call and call.delay_s for call in found] == [0.1, 0.2]
    clock.now_s += resumes_module.RECENT_S - 0.1
    reader.sample_count += 1
    assert resumes.after(LOSS, reader) is not None
    assert resumes.after(LOSS, reader) is None


def test_a_request_that_crashes_each_server_is_given_up(clock: Clock) -> None:
    resumes, reader = Resumes(request(), 3, timeout_s=3600.0), reader_of()
    for _ in range(3):
        assert resumes.after(LOSS, reader) is not None
        clock.now_s += 2 * resumes_module.RECENT_S
    assert resumes.after(LOSS, reader) is None


def test_the_error_is_that_of_the_first_loss_since_the_last_new_audio(clock: Clock) -> None:
    resumes, reader = Resumes(request(), 3, timeout_s=3600.0), reader_of(0)
    end = ServerError(CODES.INTERNAL, "end", ErrorDetails())
    losses = [ServerError(CODES.UNAVAILABLE, word, ErrorDetails()) for word in ("one", "two")]
    assert resumes.after(losses[0], reader) is not None and resumes.cause(end, reader) is end, "nothing was heard"
    reader.sample_count = 7
    for loss in losses:
        assert resumes.after(loss, reader) is not None
    assert resumes.cause(end, reader) is losses[0]
    reader.sample_count = 8
    assert resumes.cause(end, reader) is end


def test_a_write_after_the_deadline_does_not_hide_it(clock: Clock) -> None:
    resumes, nothing = Resumes(request(), 3, timeout_s=2.0), SpeechReader()
    assert resumes.cause(CUT_OFF_WRITE, nothing) is CUT_OFF_WRITE
    clock.now_s += 2.0
    assert resumes.cause(CUT_OFF_WRITE, nothing).code is CODES.DEADLINE_EXCEEDED
    assert resumes.cause(LOSS, nothing) is LOSS


def test_a_quota_still_held_by_the_lost_call_is_waited_for() -> None:
    full = ServerError(CODES.RESOURCE_EXHAUSTED, "full", ErrorDetails("QUOTA_EXCEEDED", retry_delay_s=1.0))
    resumes, reader = Resumes(request(), 3, 10.0), reader_of()
    assert resumes.after(full, reader) is None
    delays = [after and after.delay_s for after in (resumes.after(error, reader) for error in (LOSS, full, full, full))]
    assert delays == [0.1, 1.0, 1.0, None]
    assert resumes.cause(full, reader) is LOSS


@pytest.mark.parametrize(
    "loss", [LOSS, ServerError(CODES.CANCELLED, "CANCELLED", ErrorDetails())], ids=["lost", "cut off"]
)
def test_a_call_lost_before_its_header_is_retried_unchanged(loss: ServerError) -> None:
    asked = tts_pb2.StreamSynthesizeRequest(input=tts_pb2.SynthesisInput(text="Hello."))
    asked.sampling_params.seed = 3
    as_it_was = asked.SerializeToString()
    after = Resumes(asked, 3, 10.0).after(loss, SpeechReader())
    assert after is not None and after.request.SerializeToString() == as_it_was


def test_a_large_request_is_retried_when_its_server_asks_for_a_later_attempt() -> None:
    asked, later = request(), ServerError(CODES.UNAVAILABLE, "lost", ErrorDetails("CODEC_UNREACHABLE", retry_delay_s=1))
    recording = asked.context.turns.add().audio.recording
    recording.audio_content = bytes(LARGE_BYTES)
    after = Resumes(asked, 3, 10.0).after(later, SpeechReader())
    assert after is not None and after.delay_s == 1
    recording.audio_content = bytes(LARGE_BYTES // 2)
    assert Resumes(asked, 3, 10.0).after(later, SpeechReader()) is None


@pytest.mark.parametrize(
    "answer",
    [
        ServerError(CODES.UNAVAILABLE, "full", ErrorDetails(reason="QUEUE_FULL")),
        ServerError(CODES.UNAVAILABLE, "failed to connect to all addresses; last error: UNKNOWN", ErrorDetails()),
        ServerError(CODES.UNAVAILABLE, "errors resolving nohost:443: [...]", ErrorDetails()),
    ],
    ids=lambda answer: str(answer)[:20],
)
def test_a_refusal_or_an_unreachable_server_is_not_a_loss(answer: ServerError) -> None:
    assert Resumes(request(), 3, 10.0).after(answer, SpeechReader()) is None


def test_no_call_is_made_after_the_deadline_or_a_refusal(clock: Clock) -> None:
    resumes = Resumes(request(), 3, timeout_s=10.0)
    assert resumes.after(ServerError(CODES.INVALID_ARGUMENT, "wrong", ErrorDetails()), reader_of()) is None
    clock.now_s += 10.0
    assert resumes.after(LOSS, reader_of()) is None
    assert Resumes(request(), 0, timeout_s=10.0).after(LOSS, reader_of()) is None


def test_a_status_that_a_write_has_replaced_may_be_a_loss_of_a_text_alone() -> None:
    writer = TextWriter(["a"], request(), keep=True)
    assert isinstance(Resumes(request(), 3, 10.0, writer).after(CUT_OFF_WRITE, reader_of()), NextCall)
    assert Resumes(request(), 3, 10.0).after(CUT_OFF_WRITE, reader_of()) is None


def test_a_text_that_was_not_kept_is_named_as_the_reason() -> None:
    resumes = Resumes(request(), 3, 10.0, TextWriter(["a"], request(), keep=False))
    assert resumes.after(LOSS, reader_of()) is None
    assert resumes.hindrance == "A text of over 256 KiB does not go on at another server."


def test_an_utterance_resumes_with_the_received_checkpoints() -> None:
    asked = request()
    resumes, reader = Resumes(asked, 3, 10.0), reader_of()
    reader.accept(tts_pb2.StreamSynthesizeResponse(checkpoint=tts_pb2.SpeechCheckpoint(state=b"1")))
    for _ in range(2):
        assert resumes.after(LOSS, reader) is not None
        assert list(asked.stream_config.checkpoints) == [b"1"]


def test_a_text_resumes_with_its_speech_checkpoints() -> None:
    asked = request()
    resumes, reader = Resumes(asked, 3, 10.0, TextWriter(["a"], asked, keep=True)), reader_of()
    place = tts_pb2.SpeechCheckpoint(state=b"a")
    reader.accept(tts_pb2.StreamSynthesizeTextResponse(speech_checkpoint=place))
    assert resumes.after(LOSS, reader) is not None
    assert list(asked.stream_config.speech_checkpoints) == [b"a"] and not asked.stream_config.checkpoints


def test_a_text_resumes_with_a_snapshot_of_its_checkpoints() -> None:
    asked = request()
    resumes, reader = Resumes(asked, 3, 10.0, TextWriter(["a"], asked, keep=True)), reader_of()
    for states in ([b"1"], [b"1", b"2"]):
        message = tts_pb2.StreamSynthesizeTextResponse(checkpoint=tts_pb2.TextCheckpoint(state=states[-1]))
        reader.accept(message)
        assert resumes.after(LOSS, reader) is not None
        assert list(asked.stream_config.checkpoints) == states and not asked.stream_config.speech_checkpoints
        again = tts_pb2.SynthesisHeader(seed=5, resumed_sentence_count=len(states), first_sentence_index=len(states))
        reader.accept(tts_pb2.StreamSynthesizeTextResponse(header=again))
    reader.begin_again()
    reader.accept(tts_pb2.StreamSynthesizeTextResponse(header=tts_pb2.SynthesisHeader(seed=5)))
    assert resumes.after(LOSS, reader) is not None and not asked.stream_config.checkpoints


def test_a_call_announces_a_large_request() -> None:
    large = tts_pb2.StreamSynthesizeRequest(input=tts_pb2.SynthesisInput(text="x" * LARGE_BYTES))
    own = (("authorization", "Bearer token"),)
    assert call_options(request(), own, 2.0) == {"timeout": 2.0, "metadata": own}
    assert size_metadata(large) and call_options(large, own, 2.0)["metadata"] == own + size_metadata(large)
