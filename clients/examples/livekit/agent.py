"""A LiveKit agent without an account: no room, no language model. It answers each line that is typed, into a WAV file.

    pip install 'csm-client[livekit]'
    python agent.py 127.0.0.1:50051 answer.wav

A line that is typed while the agent speaks interrupts it. In a program of yours the session has a room, ears and a
language model: AgentSession(stt=..., llm=..., tts=TTS("127.0.0.1:50051")), and the file goes.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from csm_client import WavFile
from csm_client.plugins.livekit import SAMPLE_RATE_HZ, TTS
from livekit import rtc
from livekit.agents import Agent, AgentSession
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities


class WavOutput(AudioOutput):
    """Takes the agent's frames in place of a room. All that comes counts as played."""

    def __init__(self, file: WavFile) -> None:
        super().__init__(label="wav", capabilities=AudioOutputCapabilities(pause=False), sample_rate=SAMPLE_RATE_HZ)
        self._file = file
        self._seconds = 0.0

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        self._file.write(bytes(frame.data))
        self._seconds += frame.duration

    def flush(self) -> None:
        super().flush()
        self._end(interrupted=False)

    def clear_buffer(self) -> None:
        self._end(interrupted=True)

    def _end(self, *, interrupted: bool) -> None:
        if self._seconds:
            self.on_playback_finished(playback_position=self._seconds, interrupted=interrupted)
            self._seconds = 0.0


async def reply(line: str) -> AsyncIterator[str]:
    """What a language model would write, word by word."""
    for word in f"You said: {line.strip()}. Tell me more about it.".split():
        yield f"{word} "


async def main(target: str, path: Path) -> None:
    session: AgentSession[None] = AgentSession(tts=TTS(target))
    with WavFile(path, SAMPLE_RATE_HZ) as file:
        session.output.audio = WavOutput(file)
        await session.start(Agent(instructions="Repeat what you hear."))
        speaking = None
        while line := await asyncio.to_thread(sys.stdin.readline):
            if speaking is not None and not speaking.done():
                speaking.interrupt()
            speaking = session.say(reply(line))
        if speaking is not None:
            await speaking
        await session.aclose()
        file.finish()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
