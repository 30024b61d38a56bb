"""The operator's folder of voices, reloaded when it changes. If it is invalid, the last valid voices stay in use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from csm_bundle.errors import BundleError
from csm_bundle.voice_folder import FolderVoice, read_voices, voice_files
from services.common.followed_files import FollowedFiles


class VoicesFolderError(OSError):
    """The folder cannot be used; the message names it."""


VoiceFolder = FollowedFiles[Mapping[str, FolderVoice]]


def voice_folder(path: Path, on_reload: Callable[[bool], None] = lambda usable: None) -> VoiceFolder:
    """The voices of one folder, by name. on_reload: see FollowedFiles. Raises VoicesFolderError."""
    return FollowedFiles(lambda: _files(path), lambda: _by_name(path), on_reload=on_reload)


def _by_name(path: Path) -> dict[str, FolderVoice]:
    try:
        return {voice.name: voice for voice in read_voices(path)}
    except BundleError as error:
        raise VoicesFolderError(f"--voices-folder cannot be used: {error}") from None


def _files(path: Path) -> list[Path]:
    """Every file of a voice."""
    return [file for manifest in voice_files(path) for file in sorted(manifest.parent.iterdir())]
