"""The `csm` program: say, serve-info, voices, detect.

Exit codes: 0 done, 1 failed (a sentence says why), 2 wrong arguments, 3 no watermark found, 130 interrupted, 129 ended
by SIGHUP, 143 by SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

from csm.v1 import tts_pb2

from csm_client import __version__
from csm_client.async_client import DEFAULT_TIMEOUT_S, AsyncClient
from csm_client.command.argument_types import NUMBERS, deadline, int32, out, rate, seconds, target, utf8
from csm_client.command.detect import detect
from csm_client.command.say import say
from csm_client.command.shown import in_seconds, name_of, shown
from csm_client.command.voices import add_voices_options, voices, wrong_voices_arguments
from csm_client.command.wrong_fields import option_of
from csm_client.credentials import ConnectionOptions, load_token
from csm_client.errors import CsmClientError, ServerError
from csm_client.files import in_thread
from csm_client.tables.encodings import ENCODINGS
from csm_client.tables.sampling import SAMPLING

INTERRUPTED = 130
SIGNALLED = 128  # and the number of the signal


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. arguments: the command line when None"""
    _settle_streams()
    parser = command_line()
    parsed = parser.parse_args(arguments)
    if parsed.command == "voices" and (wrong := wrong_voices_arguments(parsed)):
        parser.error(wrong)
    ended_by: list[signal.Signals] = []
    try:
        return asyncio.run(exit_code_of(_run(parsed, ended_by), parsed.target))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except asyncio.CancelledError:
        print(f"ended by {ended_by[0].name}", file=sys.stderr)
        return SIGNALLED + ended_by[0]


def _settle_streams() -> None:
    """Makes standard error one that may be written to, and both such that print what their encoding does not have."""
    if sys.stderr is None:  # it is closed
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # for as long as the process runs
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


async def exit_code_of(work: Awaitable[int], target: str) -> int:
    """The exit code of `work`; a failure is printed on standard error, and the code is 1."""
    try:
        return await work
    except ServerError as error:
        print(f"error: {_sentence(error, target)}", file=sys.stderr)
    except (CsmClientError, OSError) as error:
        print(f"error: {shown(error)}", file=sys.stderr)
    return 1


async def _run(arguments: Namespace, ended_by: list[signal.Signals]) -> int:
    """ended_by: takes the signals that have cancelled it"""
    _cancel_at_signals(ended_by)
    connection = await _connection(arguments)
    async with AsyncClient(arguments.target, timeout_s=arguments.deadline, **connection) as client:
        match arguments.command:
            case "say":
                return await say(client, arguments)
            case "voices":
                return await voices(client, arguments)
            case "detect":
                file, rate_hz = arguments.file, arguments.rate
                return await detect(client, file, arguments.key_id, sample_rate_hz=rate_hz, as_json=arguments.json)
            case _:
                return await _serve_info(client)


def _cancel_at_signals(ended_by: list[signal.Signals]) -> None:
    """SIGTERM and SIGHUP cancel the running task. A SIGHUP that is ignored, as under nohup, still is."""
    task = asyncio.current_task()
    assert task is not None

    def end(received: signal.Signals) -> None:
        ended_by.append(received)
        task.cancel()

    signals = [signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    with suppress(NotImplementedError, RuntimeError):  # on Windows; on another thread than the main one
        for each in signals:
            asyncio.get_running_loop().add_signal_handler(each, end, each)


async def _connection(arguments: Namespace) -> ConnectionOptions:
    """Raises TokenError."""
    token = os.environ.get("CSM_TOKEN") or None
    if arguments.token_file is not None:
        token = await in_thread(load_token, arguments.token_file)
    return ConnectionOptions(
        tls=arguments.tls,
        tls_ca=arguments.tls_ca,
        tls_certificate=arguments.tls_certificate,
        tls_key=arguments.tls_key,
        token=token,
        insecure_token=arguments.insecure_token,
    )


async def _serve_info(client: AsyncClient) -> int:
    info = await client.server_info()
    encodings = [name_of(tts_pb2.AudioEncoding, value, "AUDIO_ENCODING_").upper() for value in info.audio_encodings]
    limits = info.limits
    for name, value in (
        ("model", info.model_version),
        ("note", info.model_notice),
        ("default voice", info.default_voice),
        ("sample rate", f"{info.natural_sample_rate_hertz} Hz"),
        ("encodings", ", ".join(encodings)),
        ("sample rates", ", ".join(map(str, info.sample_rates_hertz))),
        ("watermark", f"{info.watermark.scheme}, key {info.watermark.key_id}"),
        ("longest text", f"{limits.max_text_length} characters"),
        ("longest audio", f"{in_seconds(limits.max_stream_audio_duration):g} s as a stream"),
        ("", f"{in_seconds(limits.max_unary_audio_duration):g} s in one message"),
    ):
        if value:
            print(f"{name:<20} {shown(value)}")
    return 0


def _sentence(error: ServerError, target: str) -> str:
    """The message for a failed call: the failure, the server, and what to change."""
    lines = [f"{error} ({error.code.name}, {error.reason})"]
    if error.field_violations:
        lines = [f"{option_of(violation.field)} {violation.description}" for violation in error.field_violations]
    if error.reason == "UNAVAILABLE":  # no server has answered
        lines = [f"No server answers at {target}: {error}"]
    if error.request_id:
        lines.append(f"request id {error.request_id}")
    return "\n       ".join(map(shown, lines))


def command_line() -> ArgumentParser:
    """What `csm` takes. Public for programs that make completions and pages of it."""
    common = ArgumentParser(add_help=False)
    common.add_argument(
        "--target",
        type=target,
        default=os.environ.get("CSM_TARGET") or "127.0.0.1:50051",
        help="server to call, as host:port (default: $CSM_TARGET, or else 127.0.0.1:50051)",
    )
    common.add_argument(
        "--deadline",
        type=deadline,
        default=DEFAULT_TIMEOUT_S,
        metavar="SECONDS",
        help="end the call after this many seconds (default: %(default)g)",
    )
    common.add_argument("--tls", action="store_true", help="use TLS; trust the usual CAs")
    common.add_argument("--tls-ca", type=Path, metavar="FILE", help="use TLS; trust the CAs in this PEM file")
    common.add_argument(
        "--tls-certificate",
        type=Path,
        metavar="FILE",
        help="PEM file of your certificate chain, for a server that wants one",
    )
    common.add_argument(
        "--tls-key", type=Path, metavar="FILE", help="PEM file of the key of --tls-certificate, not encrypted"
    )
    common.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file with the bearer token to send (default: the token in $CSM_TOKEN)",
    )
    common.add_argument(
        "--insecure-token",
        action="store_true",
        help="send the token even without TLS to another host, where others can read it",
    )
    parser = ArgumentParser(prog="csm", description="Make speech from text, over gRPC.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    say_parser = commands.add_parser(
        "say", parents=[common], help="make speech of a text: into an audio file, or played"
    )
    say_parser.add_argument(
        "text", type=utf8, help="what to say; - reads standard input, and says each sentence as soon as it is there"
    )
    add_say_options(say_parser)
    commands.add_parser(
        "serve-info", parents=[common], help="print the server's model, encodings, watermark and limits"
    )
    voices_parser = commands.add_parser("voices", parents=[common], help="list, add, show and delete voices")
    add_voices_options(voices_parser)
    detect_parser = commands.add_parser(
        "detect",
        parents=[common],
        help="find the parts of an audio file, of up to an hour, that carry the server's watermark",
    )
    detect_parser.add_argument("file", type=Path, help="WAV, Ogg Opus, MP3, AAC (ADTS) or FLAC file, or samples alone")
    detect_parser.add_argument(
        "--rate",
        type=rate,
        metavar="HZ",
        help="sample rate of a mono file of samples alone: .raw and .pcm (16 bits, little-endian), .ulaw, .alaw",
    )
    detect_parser.add_argument(
        "--key-id",
        type=utf8,
        action="append",
        default=[],
        help="look only for the key of this id; may be repeated (default: all keys)",
    )
    detect_parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return parser


def add_say_options(parser: ArgumentParser) -> None:
    """Adds the options of `say`, also for programs that start their own server."""
    destination = parser.add_mutually_exclusive_group()
    destination.add_argument("--play", action="store_true", help="play the speech while it is made; write no file")
    destination.add_argument(
        "--out",
        type=out,
        help="audio file, FIFO or device to write; - is standard output (default: speech.wav; with --encoding"
        " speech.ogg, speech.mp3, ...)",
    )
    parser.add_argument(
        "--encoding", choices=list(ENCODINGS), help="audio format (default: by the file's name, or else wav)"
    )
    parser.add_argument("--rate", type=int32, metavar="HZ", help="sample rate (default: the model's own)")
    parser.add_argument(
        "--speed", type=float, help="speed of the speech, 0.25 to 4; the pitch does not change (default: 1)"
    )
    parser.add_argument("--speaker", type=int32, help="speaker number (default: the voice's)")
    parser.add_argument("--voice", type=utf8, help="name of the voice (default: the server's default voice)")
    parser.add_argument(
        "--context", type=Path, metavar="JSON", help="file with the conversation so far: a JSON list of turns"
    )
    parser.add_argument(
        "--conversation",
        type=utf8,
        metavar="ID",
        help="id of the conversation; with it, the server can reuse what it computed for earlier turns",
    )
    for name, option in SAMPLING.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=NUMBERS[option.bits],
            help=f"{option.meaning} ({option.allowed})",
        )
    parser.add_argument(
        "--max-seconds", type=seconds, help="most audio to make, in seconds (default: the server's limit)"
    )
    parser.add_argument(
        "--as-one-utterance",
        action="store_true",
        help="say the text as one utterance (default: each sentence is one, with earlier sentences as context)",
    )
    parser.add_argument(
        "--return-codes",
        type=Path,
        metavar="FILE",
        help="save the codes of the audio in this file, for a turn in --context",
    )


if __name__ == "__main__":
    sys.exit(main())
