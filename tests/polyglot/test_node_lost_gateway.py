"""clients/node under the loss of a gateway: it goes on at another one, and no sample differs."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path
from typing import Any

import pytest

from tests.clients.python.test_lost_gateway import AUDIO, HELD_AT, Gateways, running_gateways

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]


async def say_and_kill(gateways: Gateways, node: Any, *arguments: str) -> tuple[int, str]:
    """Exit code and standard error of the client, whose gateway is killed in the middle of its audio."""
    codec = gateways.deployment.codec
    codec.script.pause_at = HELD_AT
    client = await asyncio.create_subprocess_exec(
        *node.command(gateways.target, "Hello.", *arguments), stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(100):
        assert client.stderr is not None
        heard = await client.stderr.readuntil(b"s of audio")
        while codec.calls[0].frame_count < HELD_AT:
            await asyncio.sleep(0.02)
        gateways.processes[0].kill()  # the first of the target is the one that is used
        gateways.processes[0].wait()
        await codec.calls[0].ended.wait()
        codec.script.pause_at = None
        codec.script.resume.set()
        stderr = heard + (await client.communicate())[1]
    assert client.returncode is not None
    return client.returncode, stderr.decode()


@pytest.mark.parametrize("arguments", [[], ["--seed", "7"]], ids=["seed got", "seed set"])
async def test_a_stream_goes_on_at_another_gateway_bit_for_bit(tmp_path: Path, node: Any, arguments: list[str]) -> None:
    async with running_gateways(tmp_path) as gateways:
        code, stderr = await say_and_kill(gateways, node, *arguments)
        assert code == 0, stderr
        with wave.open(str(node.out), "rb") as audio:
            assert audio.readframes(audio.getnframes()) == AUDIO
        assert len(gateways.deployment.codec.calls) == 2


async def test_a_caller_may_do_without(tmp_path: Path, node: Any) -> None:
    async with running_gateways(tmp_path) as gateways:
        code, stderr = await say_and_kill(gateways, node, "--resumes", "0")
        assert code == 1 and "UNAVAILABLE" in stderr
        assert not node.out.exists()
