"""Kept voices through the clients and through `csm voices`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import csm_client
import pytest
from csm.codec.v1 import codec_pb2
from csm.v1 import voices_pb2
from csm_client import Consent
from csm_client.command.cli import main

from tests.clients.python.conftest import BackgroundServer, background_server
from tests.services.gateway.voices.callers import wav
from tests.services.gateway.voices.test_files import write_voice

CONSENT = Consent("contract 17", "She agrees.")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BackgroundServer]:
    with background_server(voices_database=str(tmp_path / "voices.sqlite")) as running:
        running.deployment.codec.detection = codec_pb2.DetectWatermarkResponse()
        yield running


def test_voice_is_made_used_and_deleted(server: BackgroundServer) -> None:
    with csm_client.Client(server.target, timeout_s=20) as client:
        made = client.create_voice("carol", audio=wav(), text="Words.", consent=CONSENT, seed=7, everyone=True)
        assert made.audience == voices_pb2.VOICE_AUDIENCE_EVERYONE
        assert client.get_voice("carol") == made
        assert [voice.name for voice in client.list_voices()] == ["ada", "bo", "carol"]
        client.synthesize("Hello.", voice="carol")
        assert server.deployment.engine.calls[0].request.segments[0].text == "Words."
        client.delete_voice("carol")
        with pytest.raises(csm_client.NotFoundError) as failed:
            client.synthesize("Hello.", voice="carol")
        assert failed.value.reason == "VOICE_NOT_FOUND"


async def test_the_asynchronous_client_makes_uses_and_deletes_a_voice(server: BackgroundServer) -> None:
    async with csm_client.AsyncClient(server.target, timeout_s=20) as client:
        made = await client.create_voice("carol", seed=7, languages=["en"])
        assert await client.get_voice("carol") == made
        await client.delete_voice("carol")
        with pytest.raises(csm_client.NotFoundError):
            await client.get_voice("carol")
        with pytest.raises(csm_client.InvalidRequestError) as failed:
            await client.create_voice("carol", audio=wav(), text="Words.")
        assert [violation.field for violation in failed.value.field_violations] == ["consent.id", "consent.text"]
        with pytest.raises(ValueError, match="not both"):
            await client.create_voice("carol", seed=7, callers=["shop"], everyone=True)


def test_command_adds_shows_lists_and_deletes(
    server: BackgroundServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.wav").write_bytes(wav())
    at = ["--target", server.target]
    consent = ["--consent-id", "contract 17", "--consent-text", "She agrees."]
    prompt = ["--audio", str(tmp_path / "a.wav"), "--text", "Words."]
    assert main(["voices", "add", "carol", *prompt, *consent, "--description", "Calm.", *at]) == 0
    said = capsys.readouterr().out
    assert "contract 17: She agrees." in said and "-20.0 dB" in said and "0.24 s" in said
    assert main(["voices", "show", "carol", *at]) == 0
    assert capsys.readouterr().out == said
    for listing in (["voices"], ["voices", "list"]):
        assert main([*listing, *at]) == 0
        assert "carol                speaker 0                 Calm. [prompt]" in capsys.readouterr().out
    assert main(["voices", "delete", "carol", *at]) == 0
    assert main(["voices", "show", "carol", *at]) == 1
    assert "VOICE_NOT_FOUND" in capsys.readouterr().err


def test_the_command_says_a_text_with_a_prompt_under_any_speaker(
    server: BackgroundServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the voice of the second speaker of a conversation, before that speaker has a turn."""
    with csm_client.Client(server.target, timeout_s=20) as client:
        client.create_voice("carol", audio=wav(), text="Words.", consent=CONSENT)
        client.create_voice("dave", seed=7)
    say = ["say", "Hello.", "--out", str(tmp_path / "a.wav"), "--target", server.target, "--speaker", "5"]
    assert main([*say, "--voice", "carol"]) == 0
    assert [segment.speaker_id for segment in server.deployment.engine.calls[0].request.segments] == [5, 5]
    capsys.readouterr()
    assert main([*say, "--voice", "dave"]) == 1
    assert capsys.readouterr().err == "error: The voice dave has no speaker 5; it has 0 (dave).\n"


def test_the_command_prints_no_length_of_the_operator_s_prompt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_voice(tmp_path, "dave")
    with background_server(voices_folder=tmp_path) as running:
        assert main(["voices", "show", "dave", "--target", running.target]) == 0
    assert "\nprompt               yes\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["add"], "add needs the name"),
        (["delete"], "delete needs the name"),
        (["list", "carol"], "list takes no name"),
        (["add", "carol", "--seed", str(2**63)], f"argument --seed: must be {-(2**63)} to {2**63 - 1}"),
        (["add", "carol", f"--speaker={-(2**31) - 1}"], "argument --speaker: must be -2147483648 to 2147483647"),
        (["add", "carol", "--caller", "shop", "--everyone"], "not allowed with"),
        (["rename", "carol"], "invalid choice"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments: list[str], why: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["voices", *arguments])
    assert ended.value.code == 2
    assert why in capsys.readouterr().err


def test_a_refused_recording_is_named_by_its_option(
    server: BackgroundServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.wav").write_bytes(wav(0.5))
    consent = ["--consent-id", "17", "--consent-text", "Yes."]
    prompt = ["--audio", str(tmp_path / "a.wav"), "--text", "Words."]
    assert main(["voices", "add", "carol", *prompt, *consent, "--target", server.target]) == 1
    assert "--audio lasts 0.50 s; at least 1 s are needed." in capsys.readouterr().err
