"""`csm say --play`: sound through the speakers while it is made, by the sounddevice package or the system's player."""

from __future__ import annotations

import asyncio
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from csm_client.audio_files import AudioFile
from csm_client.command.output import Output
from csm_client.errors import PlayerError

# Each reads headerless 16-bit samples of one channel from its standard input.
PLAYERS = (
    "paplay --raw --format=s16le --channels=1 --rate={rate}",
    "aplay --quiet --file-type=raw --format=S16_LE --channels=1 --rate={rate} -",
    "ffplay -autoexit -nodisp -loglevel error -f s16le -sample_rate {rate} -ch_layout mono -i -",
)
MISSING = (
    "No player was found: install csm-client[play] (on Linux also libportaudio2), or paplay "
    "(pulseaudio-utils), aplay (alsa-utils) or ffplay (ffmpeg)."
)
END_S = 5.0  # for a player that has been told to end
SILENT_S = 10.0  # that a player may take longer than the sound; paplay waits 30 s for a server that is mute
TICK_S = 0.1  # a program that was stopped and goes on has missed one
SAMPLE_BYTES = 2


class Sink(Protocol):
    """Plays samples. `write` blocks while its buffer is full, `end` until all is played; both raise PlayerError."""

    def write(self, samples: bytes) -> None: ...
    def end(self) -> None: ...
    def stop(self) -> None: ...


class Playback(Output):
    """The speakers as an output. What has come and has not been played waits in memory: at most one answer's audio."""

    def __init__(self, encoding: str | None) -> None:
        """encoding: that of the command line. Raises PlayerError when it is set."""
        if encoding is not None:
            raise PlayerError(f"--encoding {encoding} cannot be used with --play, which always plays PCM.")
        super().__init__(Path("speakers"), encoding="pcm", is_wav=False, is_straight=True)
        self._player: Player | None = None

    async def open_straight(self, timeout_s: float) -> None:
        """Raises PlayerError when there is nothing to play with."""
        if _sounddevice() is None and _system_player() is None:
            raise PlayerError(MISSING)

    def open(self, sample_rate_hz: int) -> AudioFile:
        self._player = Player(_open_sink(sample_rate_hz), SAMPLE_BYTES * sample_rate_hz)
        return self._player

    async def drain(self) -> None:
        """Waits until all has been played. Raises PlayerError."""
        if self._player is not None:
            await asyncio.to_thread(self._player.join)

    def close(self) -> None:
        if self._player is not None:
            self._player.stop()


class Player(AudioFile):
    """Hands samples to a sink on a thread of its own, because a sink takes them no faster than they sound."""

    def __init__(self, sink: Sink, bytes_per_second: int) -> None:
        self._sink, self._bytes_per_second = sink, bytes_per_second
        self._waiting = queue.SimpleQueue[bytes]()
        self._num_calls, self._sounds_s = 0, 0.0  # of the sink; what may still have to sound in the running one
        self._error: PlayerError | None = None
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def write(self, content: bytes) -> None:
        """Raises PlayerError when the player has ended."""
        if self._error is not None:
            raise self._error
        self._waiting.put(content)

    def finish(self) -> None:
        self._waiting.put(b"")

    def join(self) -> None:
        """Waits until all has been played. Raises PlayerError, also when nothing has been for SILENT_S."""
        call, waited_s = 0, 0.0
        while self._thread.is_alive():
            self._thread.join(TICK_S)
            waited_s = waited_s + TICK_S if call == self._num_calls else 0.0
            call = self._num_calls
            if waited_s >= self._sounds_s + SILENT_S:
                self.stop()
                raise PlayerError(f"Nothing has been played for {waited_s:.1f} s; check the sound device.")
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Silence at once; nothing after the end."""
        self._sink.stop()

    def __exit__(self, *_: object) -> None:
        """What is left to play is `drain`'s and `close`'s."""

    def _play(self) -> None:
        num_bytes = 0
        try:
            while samples := self._waiting.get():
                num_bytes += len(samples)
                self._call(self._sink.write, len(samples), samples)
            self._call(self._sink.end, num_bytes)  # a pipe may have taken all of it at once
        except PlayerError as error:
            self._error = error

    def _call(self, method: Callable[..., None], num_bytes: int, *samples: bytes) -> None:
        """num_bytes: that may have to sound until it returns"""
        self._num_calls, self._sounds_s = self._num_calls + 1, num_bytes / self._bytes_per_second
        method(*samples)


class SystemPlayer:
    """A program that reads samples from its standard input."""

    def __init__(self, command: list[str]) -> None:
        self._name = command[0]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert self._process.stdin is not None
        self._input = self._process.stdin

    def write(self, samples: bytes) -> None:
        try:
            self._input.write(samples)
            self._input.flush()
        except OSError:
            raise self._failure() from None

    def end(self) -> None:
        with suppress(OSError):  # then the exit status says so
            self._input.close()
        if self._process.wait() != 0:
            raise self._failure()

    def stop(self) -> None:
        self._process.terminate()

    def _failure(self) -> PlayerError:
        with suppress(OSError):
            self._input.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        return PlayerError(f"{self._name} ended before all was played (exit status {self._process.returncode}).")


class Device:
    """The default output of sounddevice."""

    def __init__(self, sounddevice: Any, sample_rate_hz: int) -> None:
        self._error = sounddevice.PortAudioError
        try:
            self._stream = sounddevice.RawOutputStream(samplerate=sample_rate_hz, channels=1, dtype="int16")
            self._stream.start()
        except self._error as error:
            raise PlayerError(f"The sound device cannot be opened: {error}") from None

    def write(self, samples: bytes) -> None:
        try:
            self._stream.write(samples)
        except self._error as error:
            raise PlayerError(f"The sound device failed: {error}") from None

    def end(self) -> None:
        try:
            self._stream.stop()  # plays what is buffered
            self._stream.close()
        except self._error as error:
            raise PlayerError(f"The sound device failed: {error}") from None

    def stop(self) -> None:
        if not self._stream.closed:
            self._stream.abort()


def _open_sink(sample_rate_hz: int) -> Sink:
    if (sounddevice := _sounddevice()) is not None:
        return Device(sounddevice, sample_rate_hz)
    command = _system_player()
    assert command is not None  # `open_straight` has looked
    return SystemPlayer([word.format(rate=sample_rate_hz) for word in command])


def _sounddevice() -> Any:
    """The package; None where it, or PortAudio, is missing."""
    try:
        import sounddevice
    except (ImportError, OSError):  # OSError: PortAudio is missing
        return None
    return sounddevice


def _system_player() -> list[str] | None:
    return next((command.split() for command in PLAYERS if shutil.which(command.split()[0])), None)
