"""`csm say`: a text, said by the server, into an audio file or through the speakers, with progress and figures."""

from __future__ import annotations

import asyncio
import sys
import time
from argparse import Namespace
from contextlib import ExitStack
from typing import TextIO, cast

from csm.v1 import tts_pb2

from csm_client.async_client import AsyncClient, AsyncSpeechStream
from csm_client.audio_files import AudioFile
from csm_client.command.output import Output, check_apart, check_file, choose_output
from csm_client.command.pieces import pieces
from csm_client.command.playback import Playback
from csm_client.command.progress import Progress
from csm_client.command.shown import name_of, shown
from csm_client.errors import IncompleteAudioError, SpeakerError
from csm_client.files import in_thread, load_context, save_codes
from csm_client.requests import StreamOptions
from csm_client.speech import codes_of
from csm_client.tables.sampling import SAMPLING


async def say(client: AsyncClient, arguments: Namespace) -> int:
    """Writes the file and prints the figures; returns the exit code."""
    output = Playback(arguments.encoding) if arguments.play else choose_output(arguments.out, arguments.encoding)
    if arguments.return_codes is not None:
        check_file(arguments.return_codes)
    check_apart({"--context": arguments.context, "--return-codes": arguments.return_codes, "--out": output.path})
    options = await _options(arguments, output)
    notice = (await client.server_info()).model_notice
    await _check_speaker(client, options)
    await output.open_straight(arguments.deadline)
    try:
        code = await _say_into(output, client, arguments, options, notice)
        await output.drain()
        return code
    finally:
        output.close()


async def _check_speaker(client: AsyncClient, options: StreamOptions) -> None:
    """Raises SpeakerError for a speaker of no voice and no turn.

    A model without voices accepts every speaker, and so does a named voice with a prompt, which is then that speaker's.
    """
    if (speaker := options.get("speaker")) is None:
        return
    name = options.get("voice", "")
    voices = [voice for voice in await client.list_voices() if name in ("", voice.name)]
    known = {voice.speaker for voice in voices} | {turn.speaker for turn in options.get("context", ())}
    is_prompted = name != "" and any(voice.has_prompt for voice in voices)
    if voices and speaker not in known and not is_prompted:
        there = ", ".join(f"{voice.speaker} ({voice.name})" for voice in voices)
        whose = f"The voice {name}" if name else "The model"
        raise SpeakerError(f"{whose} has no speaker {speaker}; it has {there}.")


async def _say_into(
    output: Output, client: AsyncClient, arguments: Namespace, options: StreamOptions, notice: str
) -> int:
    progress = Progress(sys.stderr)
    progress.waiting(arguments.target)
    started_s = time.monotonic()
    is_written_elsewhere = arguments.text == "-"  # then a silence may be the writer's
    watching = None if is_written_elsewhere else asyncio.create_task(progress.watch(arguments.deadline))
    try:
        async with _open(client, arguments, options) as stream:
            first_audio_s = await _save(stream, output, progress, started_s)
    except IncompleteAudioError as error:
        left = "The audio so far was delivered." if output.is_straight else f"{output.path} was not written."
        message = f"{error} {left}"
        raise IncompleteAudioError(message, error.received_sample_count) from error
    finally:
        if watching is not None:
            watching.cancel()
        progress.end()
    _report(stream, first_audio_s, time.monotonic() - started_s, output, notice)
    codes = None if stream.summary is None else codes_of(stream.summary)
    if arguments.return_codes is not None and codes is not None:
        await in_thread(save_codes, arguments.return_codes, codes)
        print(f"codes                {arguments.return_codes}", file=_figures(output))
    return 0


def _open(client: AsyncClient, arguments: Namespace, options: StreamOptions) -> AsyncSpeechStream:
    if arguments.text == "-":
        return client.stream_synthesize_text(pieces(sys.stdin), **options)
    if arguments.as_one_utterance:
        options["as_one_utterance"] = True
        return client.stream_synthesize(arguments.text, **options)
    return client.stream_synthesize_text(arguments.text, **options)  # of any length


async def _options(arguments: Namespace, output: Output) -> StreamOptions:
    options = StreamOptions(return_codes=arguments.return_codes is not None, encoding=output.encoding)
    given = {
        "sample_rate_hz": arguments.rate,
        "speed": arguments.speed,
        "speaker": arguments.speaker,
        "voice": arguments.voice,
        "max_seconds": arguments.max_seconds,
        "conversation_id": arguments.conversation,
        **{name: getattr(arguments, name) for name in SAMPLING},
    }
    options.update(cast(StreamOptions, {name: value for name, value in given.items() if value is not None}))
    if arguments.context is not None:
        options["context"] = await in_thread(load_context, arguments.context)
    return options


async def _save(stream: AsyncSpeechStream, output: Output, progress: Progress, started_s: float) -> float:
    """Writes the stream as it arrives; returns the time of the first audio, in seconds from the start.

    The file gets its name only when the stream is complete.
    """
    first_audio_s = 0.0
    with ExitStack() as files:
        file: AudioFile | None = None
        async for chunk in stream:
            elapsed_s = time.monotonic() - started_s
            rate = _format(stream).sample_rate_hertz
            if file is None:
                file, first_audio_s = files.enter_context(output.open(rate)), elapsed_s
            await output.write(file, chunk.audio_content)
            progress.audio((chunk.sample_offset + chunk.sample_count) / rate, elapsed_s)
        if file is None:  # the model made no audio
            file = files.enter_context(output.open(_format(stream).sample_rate_hertz))
        await output.room()
        file.finish()
    return first_audio_s


def _format(stream: AsyncSpeechStream) -> tts_pb2.AudioFormat:
    assert stream.header is not None  # it comes before any audio and before the end
    if stream.header.audio_format.sample_rate_hertz <= 0:
        raise IncompleteAudioError("The server does not tell the sample rate.", 0)
    return stream.header.audio_format


def _report(stream: AsyncSpeechStream, first_audio_s: float, total_s: float, output: Output, notice: str) -> None:
    assert stream.header is not None and stream.summary is not None
    to = _figures(output)
    summary, header = stream.summary, stream.header
    audio_s = summary.stats.sample_count / header.audio_format.sample_rate_hertz
    factor = f"{total_s / audio_s:.2f}" if audio_s else "none"
    reason = name_of(tts_pb2.FinishReason, summary.finish_reason, "FINISH_REASON_")
    coverage = name_of(tts_pb2.WatermarkCoverage, summary.watermark.coverage, "WATERMARK_COVERAGE_")
    for name, value in (
        ("file", str(output.path)),
        ("format", f"{output.content}, {header.audio_format.sample_rate_hertz} Hz"),
        ("time to first audio", f"{first_audio_s:.3f} s"),
        ("audio length", f"{audio_s:.2f} s"),
        ("real-time factor", factor),
        ("finish reason", reason),
        ("watermark", f"key {summary.watermark.key_id}, {summary.watermark.scheme}, coverage {coverage}"),
        ("voice", header.voice or "none; no voice has this speaker"),
        ("seed", str(header.seed)),
        ("request id", header.request_id),
    ):
        print(f"{name:<20} {shown(value)}", file=to)
    if summary.stats.dropped_turn_count:
        dropped = f"{summary.stats.dropped_turn_count} of the oldest turns did not fit the context window"
        print(f"{'note':<20} {dropped}", file=to)
    if notice:
        print(f"note                 {shown(notice)}", file=to)


def _figures(output: Output) -> TextIO:
    """Where figures are printed: standard error when the audio goes to standard output."""
    return sys.stderr if output.is_standard_output else sys.stdout
