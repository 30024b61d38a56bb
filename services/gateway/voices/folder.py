"""The operator's folder of voices, read again when it changes. When it is wrong, the last good voices stay in use."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from csm_bundle.errors import BundleError
from csm_bundle.voice_folder import FolderVoice, read_voices, voice_files

log = logging.getLogger("csm.gateway")

LOOK_AGAIN_S = 0.5

_Stamps = tuple[tuple[str, int, int], ...]


class VoicesFolderError(OSError):
    """The folder cannot be used; the message names it."""


class VoiceFolder:
    """The voices of one folder, by name."""

    def __init__(self, path: Path) -> None:
        """Raises VoicesFolderError."""
        self._path = path.expanduser()
        self._looked_at_s = time.monotonic()
        try:
            self._stamps = _stamps(self._path)
            self._voices = _by_name(self._path)
        except (OSError, BundleError) as error:
            raise VoicesFolderError(f"--voices-folder cannot be used: {error}") from None

    async def voices(self) -> Mapping[str, FolderVoice]:
        """As the files say, at most half a second ago."""
        if time.monotonic() - self._looked_at_s > LOOK_AGAIN_S:
            self._looked_at_s = time.monotonic()
            await asyncio.to_thread(self._follow)
        return self._voices

    def _follow(self) -> None:
        try:
            stamps = _stamps(self._path)
            if stamps == self._stamps:
                return
            self._stamps = stamps
            self._voices = _by_name(self._path)
        except (OSError, BundleError) as error:
            log.error("the old voices of the folder stay in use: %s", error)
        else:
            log.info("%d voices of %s are in use now", len(self._voices), self._path)


def _by_name(path: Path) -> dict[str, FolderVoice]:
    return {voice.name: voice for voice in read_voices(path)}


def _stamps(path: Path) -> _Stamps:
    """What differs once a file of a voice was written, made or removed."""
    files = (file for manifest in voice_files(path) for file in sorted(manifest.parent.iterdir()))
    return tuple((str(file), stat.st_mtime_ns, stat.st_size) for file in files for stat in (file.stat(),))
