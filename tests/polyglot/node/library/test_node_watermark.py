"""The Node library looks for the watermark as the Python clients do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from csm.codec.v1 import codec_pb2
from csm.v1 import tts_pb2, watermark_pb2, watermark_pb2_grpc
from google.protobuf import duration_pb2

from tests.clients.python.lost_gateway.test_lost_gateway import running_gateways
from tests.polyglot.node.library.programs import found
from tests.services.gateway.voices.callers import wav
from tests.support.fake_deployment import fake_deployment
from tests.support.fake_stages import numbered_audio

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]

SEARCHES = """
const speech = await client.synthesize('Hello.', { encoding: 'wav' });
await tell(() => client.detectWatermark(speech.audioContent));
await tell(() => client.findWatermarks(createReadStream('long.wav')));
"""


async def test_found_marks_are_reported_in_a_file_larger_than_a_message(node: Any, tmp_path: Path) -> None:
    (tmp_path / "long.wav").write_bytes(wav(seconds=1200.0))
    stretch = codec_pb2.WatermarkedStretch(
        start_offset=duration_pb2.Duration(seconds=61, nanos=250_000_000),
        end_offset=duration_pb2.Duration(seconds=3600),
        key_id="key-2",
        confidence=0.5,
    )
    async with fake_deployment() as running:
        running.codec.detection.stretches.append(stretch)
        one, many = await found(SEARCHES, node, tmp_path, running.target)
        assert [len(sent.samples) for sent in running.codec.detected] == [2 * 19_200, 2 * 8_000 * 1200]
    assert one == many
    (told,) = one.pop("stretches")
    assert one == {"detected": True, "confidence": 0.75, "keyId": "key-1"}
    assert (told["keyId"], told["confidence"]) == ("key-2", 0.5)
    assert told["startOffset"] == {"seconds": 61, "nanos": 250_000_000} and told["endOffset"]["seconds"] == 3600


PIECES = """
for (const encoding of ['wav', 'ogg_opus', 'mp3', 'aac', 'flac']) {
  const { audioContent: recording } = await client.synthesize('Hello.', { encoding });
  const cut = async function* () {
    for (let [at, length] = [0, 1]; at < recording.length; at += length, length = at < 9 ? 1 : 999) {
      yield recording.subarray(at, at + length);
    }
  };
  await tell(async () => (await client.detectWatermark(recording)).detected);
  await tell(async () => (await client.findWatermarks(recording)).detected);
  await tell(async () => (await client.findWatermarks(cut())).detected);
}
"""


async def test_a_recording_of_every_format_is_searched_and_may_be_cut_anywhere(node: Any, tmp_path: Path) -> None:
    async with fake_deployment() as running:
        assert await found(PIECES, node, tmp_path, running.target) == [True] * 15
        samples = [sent.samples for sent in running.codec.detected]
        assert all(len(set(samples[at : at + 3])) == 1 for at in range(0, 15, 3))


REUSED = """
const { audioContent: recording } = await client.synthesize('Hello.', { encoding: 'wav' });
const pieces = function* () {
  const memory = Buffer.alloc(100);
  for (let at = 0; at < recording.length; at += 100) {
    yield memory.subarray(0, recording.copy(memory, 0, at, at + 100));
  }
};
await tell(async () => (await client.findWatermarks(pieces())).detected);
"""


async def test_pieces_may_come_in_the_same_memory(node: Any, tmp_path: Path) -> None:
    """As of a file that is read into one buffer. Messages wait before they are written."""
    async with fake_deployment() as running:
        assert await found(REUSED, node, tmp_path, running.target) == [True]
        (sent,) = running.codec.detected
        assert sent.samples == numbered_audio(range(10))


class Deaf(watermark_pb2_grpc.WatermarkServiceServicer):
    """Keeps the first messages, and reads no more of a recording; its answer to that comes when `answers`. Of a whole
    recording its confidence is the number of streams that have ended.
    """

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.answers = False
        self.ended = 0

    async def DetectWatermark(self, request: Any, context: Any) -> watermark_pb2.DetectWatermarkResponse:
        self.asked.append(request)
        return watermark_pb2.DetectWatermarkResponse(confidence=self.ended)

    async def StreamDetectWatermark(self, requests: AsyncIterator[Any], context: Any) -> Any:
        self.asked.append((await anext(requests)).config)
        try:
            if not self.answers:
                await asyncio.sleep(60)
        finally:
            self.ended += 1
        return watermark_pb2.StreamDetectWatermarkResponse()


KEYS = """
await client.detectWatermark(Buffer.from('fLaC'), ['a', 'b']);
client.findWatermarks(Buffer.from('ID3'), ['a']).catch(() => {});
client.findWatermarks([]).catch(() => {});
await new Promise((resolve) => setTimeout(resolve, 500));
"""


async def test_keys_and_formats_reach_the_server(node: Any, tmp_path: Path, listen: Any) -> None:
    deaf = Deaf()
    target = await listen(watermark_pb2_grpc.add_WatermarkServiceServicer_to_server, deaf)
    await found(KEYS, node, tmp_path, target)
    one, *streamed = deaf.asked
    assert list(one.key_ids) == ["a", "b"] and one.recording.audio_content == b"fLaC"
    encodings = [asked.audio_format.audio_encoding for asked in (one.recording, *streamed)]
    assert encodings == [tts_pb2.AUDIO_ENCODING_FLAC, tts_pb2.AUDIO_ENCODING_MP3, tts_pb2.AUDIO_ENCODING_WAV]
    assert [list(asked.key_ids) for asked in streamed] == [["a"], []]


UNREAD = """
const impatient = new Client(target, { deadlineSeconds: 2 });
let taken = 0;
let isClosed = false;
const endless = function* () {
  try {
    for (;;) { taken += 1; yield Buffer.alloc(65536); }
  } finally {
    isClosed = true;
  }
};
await tell(() => impatient.findWatermarks(endless()));
await new Promise((resolve) => setTimeout(resolve, 100));
found.push(taken, isClosed);
impatient.close();
"""


async def test_a_recording_is_read_no_further_than_the_server_takes_it(node: Any, tmp_path: Path, listen: Any) -> None:
    target = await listen(watermark_pb2_grpc.add_WatermarkServiceServicer_to_server, Deaf())
    (reason, message), taken, is_closed = await found(UNREAD, node, tmp_path, target)
    assert reason is None and "deadline exceeded" in message.lower()  # the words of whichever side was first
    assert 2 < taken < 500 and is_closed


BROKEN = """
await tell(() => client.findWatermarks(createReadStream('nowhere.wav')));
const pause = () => new Promise((resolve) => setTimeout(resolve, 300));
const broken = async function* () { yield Buffer.alloc(100_000); await pause(); throw new Error('the disk is gone'); };
await tell(() => client.findWatermarks(broken()));
await tell(() => client.findWatermarks((function* () { yield Buffer.from('RIFF'); yield 'WAVE'; }())));
for (let tries = 0; tries < 30; tries += 1) {
  const { confidence: ended } = await client.detectWatermark(Buffer.from('RIFF'));
  if (ended > 0) break;
  if (tries === 29) throw new Error('the call runs on');
  await pause();
}
"""


async def test_an_exception_of_the_reader_is_thrown_and_ends_the_call(node: Any, tmp_path: Path, listen: Any) -> None:
    target = await listen(watermark_pb2_grpc.add_WatermarkServiceServicer_to_server, Deaf())
    told = await found(BROKEN, node, tmp_path, target)
    assert "no such file" in told[0] and told[1] == "the disk is gone"
    assert told[2] == "A piece of the recording is 'WAVE'; it must be a Uint8Array."


ANSWERED = """
let isClosed = false;
const typed = async function* () {
  try {
    yield Buffer.from('RIFF');
    await new Promise((resolve) => setTimeout(resolve, 200));
    for (;;) yield Buffer.from('RIFF');
  } finally {
    isClosed = true;
  }
};
await tell(async () => (await client.findWatermarks(typed())).detected);
await new Promise((resolve) => setTimeout(resolve, 400));
found.push(isClosed);
"""


async def test_an_answer_does_not_wait_for_the_rest_of_the_recording(node: Any, tmp_path: Path, listen: Any) -> None:
    deaf = Deaf()
    deaf.answers = True
    target = await listen(watermark_pb2_grpc.add_WatermarkServiceServicer_to_server, deaf)
    assert await found(ANSWERED, node, tmp_path, target) == [False, True]


WRONG = """
for (const recording of ['a.wav', undefined, 5, new ArrayBuffer(4)]) await tell(() => client.findWatermarks(recording));
for (const recording of ['a.wav', [Buffer.alloc(4)]]) await tell(() => client.detectWatermark(recording));
for (const keyIds of ['key-1', ['key-1', 5]]) {
  await tell(() => client.detectWatermark(Buffer.alloc(4), keyIds));
  await tell(() => client.findWatermarks(Buffer.alloc(4), keyIds));
}
"""


async def test_wrong_values_are_refused_by_name_and_nothing_is_sent(node: Any, tmp_path: Path, listen: Any) -> None:
    deaf = Deaf()
    target = await listen(watermark_pb2_grpc.add_WatermarkServiceServicer_to_server, deaf)
    told = await found(WRONG, node, tmp_path, target)
    assert deaf.asked == []
    pieces = "it must be a Uint8Array, or an iterable of them."
    keys = ["keyIds is 'key-1'; it must be an array.", "keyIds[1] is 5; it must be a string of whole characters."]
    assert told == [
        *(f"recording is {given}; {pieces}" for given in ("'a.wav'", "undefined", "5", "of type object")),
        "recording is 'a.wav'; it must be a Uint8Array.",
        "recording is of type object; it must be a Uint8Array.",
        *(keys[at] for at in (0, 0, 1, 1)),
    ]


LOST = "await tell(async () => (await client.detectWatermark(readFileSync('long.wav'))).detected);"


async def test_a_lost_search_is_retried(node: Any, tmp_path: Path) -> None:
    (tmp_path / "long.wav").write_bytes(wav(seconds=80.0))  # gRPC itself repeats no request of over 1 MiB
    async with running_gateways(tmp_path) as gateways:
        codec = gateways.deployment.codec
        codec.search_script.pause_at = 0
        async with asyncio.timeout(100):
            searching = asyncio.create_task(found(LOST, node, tmp_path, gateways.target))
            await codec.search_script.paused.wait()
            gateways.kill_maker_of(codec.searches[0])
            codec.search_script.resume.set()
            assert await searching == [True]
        assert len(codec.searches) == 2
