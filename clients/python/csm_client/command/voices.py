"""`csm voices [list]`, `csm voices add|show|delete NAME`: the voices that a server has, and those that it keeps."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from csm.v1 import tts_pb2, voices_pb2

from csm_client.async_client import AsyncClient
from csm_client.command.argument_types import int32, int64, utf8
from csm_client.command.shown import in_seconds, name_of, shown
from csm_client.files import in_thread
from csm_client.requests import Consent, VoiceOptions

_ACTIONS = ("list", "add", "show", "delete")


async def voices(client: AsyncClient, arguments: Namespace) -> int:
    """Returns the exit code. Raises OSError for a recording that cannot be read."""
    match arguments.action:
        case "add":
            _print_voice(await client.create_voice(arguments.name, **await _options(arguments)))
        case "show":
            _print_voice(await client.get_voice(arguments.name))
        case "delete":
            await client.delete_voice(arguments.name)
        case _:
            for voice in await client.list_voices():
                print(shown(_line(voice)))
    return 0


def add_voices_options(parser: ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=_ACTIONS, default="list", help="what to do (default: %(default)s)")
    parser.add_argument("name", nargs="?", type=utf8, help="name of the voice to add, show or delete")
    add = parser.add_argument_group(
        "options of add: a voice needs a prompt (--audio, --text and the two of consent), a seed, or both"
    )
    add.add_argument(
        "--audio", type=Path, metavar="FILE", help="recording of the speaker, as a WAV, Ogg Opus, MP3, AAC or FLAC file"
    )
    add.add_argument("--text", type=utf8, help="what is said in the recording, word for word")
    add.add_argument(
        "--consent-id", type=utf8, help="where the speaker's consent is kept, such as the number of a contract"
    )
    add.add_argument("--consent-text", type=utf8, help="what the speaker agreed to")
    add.add_argument("--speaker", type=int32, default=0, help="speaker number (default: %(default)s)")
    add.add_argument(
        "--language",
        type=utf8,
        action="append",
        default=[],
        help="language that the voice speaks, as a BCP-47 tag; may be repeated",
    )
    add.add_argument("--description", type=utf8, default="", help="description for people")
    add.add_argument("--seed", type=int64, help="seed of requests that set none (default: drawn for each request)")
    audience = add.add_mutually_exclusive_group()
    audience.add_argument(
        "--caller",
        type=utf8,
        action="append",
        default=[],
        help="name of another caller that may use the voice; may be repeated",
    )
    audience.add_argument("--everyone", action="store_true", help="let every caller use the voice (default: only you)")


def wrong_voices_arguments(arguments: Namespace) -> str:
    """What is wrong with the arguments together; "" if nothing is."""
    if arguments.action == "list":
        return "list takes no name" if arguments.name is not None else ""
    return f"{arguments.action} needs the name of a voice" if arguments.name is None else ""


async def _options(arguments: Namespace) -> VoiceOptions:
    options = VoiceOptions(
        speaker=arguments.speaker,
        languages=arguments.language,
        description=arguments.description,
        callers=arguments.caller,
        everyone=arguments.everyone,
    )
    if arguments.audio is not None:
        options["audio"] = await in_thread(arguments.audio.read_bytes)
    if arguments.text is not None:
        options["text"] = arguments.text
    if arguments.consent_id is not None or arguments.consent_text is not None:
        options["consent"] = Consent(arguments.consent_id or "", arguments.consent_text or "")
    if arguments.seed is not None:
        options["seed"] = arguments.seed
    return options


def _line(voice: tts_pb2.Voice) -> str:
    languages = ",".join(voice.language_codes)
    marks = [
        mark for mark, has in (("prompt", voice.has_prompt), (f"seed {voice.seed}", voice.HasField("seed"))) if has
    ]
    notes = " ".join(filter(None, (voice.description, f"[{', '.join(marks)}]" if marks else "")))
    return f"{voice.name:<20} speaker {voice.speaker:<4} {languages:<12} {notes}".rstrip()


def _print_voice(kept: voices_pb2.KeptVoice) -> None:
    voice = kept.voice
    audience = name_of(voices_pb2.VoiceAudience, kept.audience, "VOICE_AUDIENCE_")
    for name, value in (
        ("name", voice.name),
        ("speaker", str(voice.speaker)),
        ("languages", ", ".join(voice.language_codes)),
        ("description", voice.description),
        ("seed", str(voice.seed) if voice.HasField("seed") else ""),
        ("owner", kept.owner),
        ("for", ", ".join(kept.callers) or audience),
        ("prompt", _prompt(kept)),
        ("prompt text", kept.prompt_text),
        ("level", f"{kept.prompt_level_db:.1f} dB" if kept.HasField("prompt_level_db") else ""),
        ("consent", f"{kept.consent.id}: {kept.consent.text}" if kept.HasField("consent") else ""),
        ("made", kept.create_time.ToJsonString() if kept.HasField("create_time") else ""),
        ("model", kept.model_version),
    ):
        if value:
            print(f"{name:<20} {shown(value)}")


def _prompt(kept: voices_pb2.KeptVoice) -> str:
    """Its length; "yes" for a prompt of the bundle or the operator, whose length the server does not tell."""
    if not kept.HasField("prompt_duration"):
        return "yes" if kept.voice.has_prompt else ""
    return f"{in_seconds(kept.prompt_duration):g} s"
