"""A folder of voices: one folder for each voice, whose name is the voice's. It decodes no audio.

    NAME/voice.json   {"format": 1, "speaker": 0, "text": "What is said in the recording.", "audio": "prompt.wav",
                       "consent": {"id": "contract 17", "text": "Ada agreed on 2026-03-01 to ..."},
                       "language_codes": ["en"], "description": "", "seed": 7, "callers": ["shop"]}
    NAME/prompt.wav   or "codes": "prompt.codes" with "codec": the identity, as in bundle.json

"audio" is a WAV, Ogg Opus, MP3, AAC or FLAC file. "codes" is a csm.rvq.v1.CodeFrames message. Only "callers" may use
the voice; without this key all callers may. A voice needs a prompt ("text" and one of "audio" and "codes"), a "seed",
or both. A prompt needs "consent".
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import MinLen
from pydantic import AfterValidator, TypeAdapter, ValidationError

from csm_bundle.checked_json import NOT_JSON, Name, Seed, Speaker, Text, first_problem, keys, named_once, needed, refuse
from csm_bundle.codec_identity import CodecIdentity
from csm_bundle.errors import BundleError

FORMAT = 1
MANIFEST = "voice.json"
MAX_MANIFEST_BYTES = 1_000_000
MAX_PROMPT_BYTES = 3_500_000  # fits one gRPC message; 72 s of 16-bit samples at 24 kHz
MAX_FOLDER_BYTES = 128 * 2**20  # of all voices, which are held in memory, twice while a changed folder is read
VOICE_BYTES = 2000  # by which a voice counts besides its files
VOICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Consent:
    """The consent of the speaker of a prompt."""

    id: Name
    text: Name


@dataclass(frozen=True, slots=True)
class _Content:
    """The JSON of a voice.json."""

    format: Annotated[int, AfterValidator(lambda given: _of_this_format(given))]
    speaker: Speaker
    text: Text = ""
    audio: Text = ""
    codes: Text = ""
    codec: (
        Annotated[
            CodecIdentity,
            keys(
                ("name", "codebook_count", "codebook_size", "frame_sample_count", "sample_rate_hertz", "weights_digest")
            ),
        ]
        | None
    ) = None
    consent: Annotated[Consent, keys(("id", "text"))] | None = None
    language_codes: Annotated[tuple[Name, ...], needed("a list is needed")] = ()
    description: Text = ""
    seed: Seed | None = None
    callers: Annotated[tuple[Name, ...], MinLen(1), needed("a list of names is needed")] | None = None


@dataclass(frozen=True, slots=True)
class FolderVoice:
    """One voice. `digest` identifies its prompt; "" for a voice without one."""

    name: str
    speaker: int
    text: str
    recording: bytes  # a file; b"" when the prompt is codes
    codes: bytes  # a serialized csm.rvq.v1.CodeFrames; b"" when the prompt is a recording
    codec: CodecIdentity | None  # of `codes`
    language_codes: tuple[str, ...]
    description: str
    seed: int | None
    callers: tuple[str, ...] | None  # who may use it; None is everyone
    digest: str


_CONTENT: TypeAdapter[_Content] = TypeAdapter(
    Annotated[
        _Content,
        keys(
            ("format", "speaker"),
            ("text", "audio", "codes", "codec", "consent", "language_codes", "description", "seed", "callers"),
        ),
    ]
)


def voice_files(folder: Path) -> list[Path]:
    """The voice.json files of a folder of voices, in the order of the voices' names. Raises OSError."""
    return sorted(file for path in folder.iterdir() if _is_there(file := path / MANIFEST))


def _is_there(file: Path) -> bool:
    """A link that leads nowhere counts, so that it is an error, and its voice does not just vanish."""
    return file.is_file() or (file.is_symlink() and not file.exists())


def read_voices(folder: Path) -> list[FolderVoice]:
    """Every voice of the folder, in the order of their names. Raises BundleError."""
    voices, left = list[FolderVoice](), MAX_FOLDER_BYTES
    try:
        for path in voice_files(folder):
            voices.append(voice := _read(path))
            left -= VOICE_BYTES + path.stat().st_size + len(voice.recording) + len(voice.codes)
            if left < 0:
                raise BundleError(
                    f"{folder} has more than {MAX_FOLDER_BYTES // 2**20} MiB of voices, which is the most allowed;"
                    " prompts that are codes, Opus, MP3, AAC or FLAC take less."
                )
        return voices
    except OSError as error:
        raise BundleError(f"{folder} cannot be read: {error}.") from error


def _read(path: Path) -> FolderVoice:
    name = path.parent.name
    if VOICE_NAME.fullmatch(name) is None:
        raise BundleError(f"{path.parent}: a voice's name is 1 to 64 letters, digits or . _ -")
    try:
        parsed = json.loads(_bounded(path, MAX_MANIFEST_BYTES), object_pairs_hook=named_once)
    except NOT_JSON as error:
        raise BundleError(f"{path} is not valid JSON: {error}.") from error
    try:
        content = _CONTENT.validate_python(parsed)
    except ValidationError as error:
        raise BundleError(f"{path}: {first_problem(error)}.") from error
    if why := _wrong_together(content):
        raise BundleError(f"{path}: {why}.")
    recording, codes = _prompt_file(path, content.audio), _prompt_file(path, content.codes)
    prompt = b"\0".join((content.text.encode(), recording, codes))
    digest = hashlib.sha256(prompt).hexdigest() if recording or codes else ""
    return FolderVoice(
        name,
        content.speaker,
        content.text,
        recording,
        codes,
        content.codec,
        content.language_codes,
        content.description,
        content.seed,
        content.callers,
        digest,
    )


def _wrong_together(content: _Content) -> str:
    """Which keys do not go together; "" if all do."""
    has_audio = bool(content.audio) + bool(content.codes)
    if has_audio != bool(content.text.strip()):
        return "a prompt needs text, and one of audio and codes"
    if has_audio and content.consent is None:
        return "consent is missing; a prompt needs it"
    if bool(content.codes) != (content.codec is not None):
        return "codes and codec must be given together"
    if not has_audio and content.seed is None:
        return "it has neither a prompt nor a seed"
    return ""


def _prompt_file(path: Path, name: str) -> bytes:
    if not name:
        return b""
    file = path.parent / name
    if "\0" in name or file.parent != path.parent or file.is_symlink() and not file.exists():
        raise BundleError(f"{path}: {name} must be a file beside it.")
    return _bounded(file, MAX_PROMPT_BYTES)


def _bounded(file: Path, most: int) -> bytes:
    """Reads a regular file of 1 to `most` bytes. Raises BundleError for any other; OSError."""
    size = file.stat().st_size
    if not file.is_file():
        raise BundleError(f"{file} is no regular file.")
    if 0 < size <= most:
        with file.open("rb") as opened:
            content = opened.read(most + 1)  # it may grow meanwhile
        size = len(content)
    if not 0 < size <= most:
        raise BundleError(f"{file} has {size} bytes; 1 to {most} are allowed.")
    return content


def _of_this_format(given: int) -> int:
    if given != FORMAT:
        raise refuse(f"{FORMAT} is the only format known", given=given)
    return given
