"""The operator's folder of voices, reloaded when it changes. If it is invalid, the last valid voices stay in use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path

from csm_bundle.errors import BundleError
from csm_bundle.voice_folder import FolderVoice, read_voices, voice_files
from services.common.followed_files import FollowedFiles

LOOK_AGAIN_S = 0.5
MOST_LOOK_S = 2.0  # longest wait of a call for a look, as in a file system that does not answer


class VoicesFolderError(OSError):
    """The folder cannot be used; the message names it."""


class VoiceFolder:
    """The voices of one folder, by name."""

    def __init__(self, path: Path, on_reload: Callable[[bool], None] = lambda usable: None) -> None:
        """on_reload: see FollowedFiles. Raises VoicesFolderError."""
        self._looked_at_s = time.monotonic()
        self._files = FollowedFiles(
            lambda: _files(path), lambda: _by_name(path), on_reload=on_reload, most_look_s=MOST_LOOK_S
        )
        self._is_looking = False

    async def voices(self) -> Mapping[str, FolderVoice]:
        """The voices, at most half a second old, or older while a look takes longer."""
        if not self._is_looking and time.monotonic() - self._looked_at_s > LOOK_AGAIN_S:
            self._is_looking, self._looked_at_s = True, time.monotonic()
            looking = self._files.look()
            looking.add_done_callback(self._end_look)
            await asyncio.wait({asyncio.wrap_future(looking)}, timeout=MOST_LOOK_S)
            if not looking.done():
                self._files.miss()
        return self._files.current

    def _end_look(self, looking: Future[None]) -> None:
        self._is_looking = False


def _by_name(path: Path) -> dict[str, FolderVoice]:
    try:
        return {voice.name: voice for voice in read_voices(path)}
    except BundleError as error:
        raise VoicesFolderError(f"--voices-folder cannot be used: {error}") from None


def _files(path: Path) -> list[Path]:
    """Every file of a voice."""
    return [file for manifest in voice_files(path) for file in sorted(manifest.parent.iterdir())]
