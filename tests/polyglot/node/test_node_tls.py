"""clients/node over TLS against a real gateway: who gets in, and what the others are told."""

from __future__ import annotations

import asyncio
import subprocess
import wave
from pathlib import Path
from typing import Any

import pytest

from tests.support.authority import Authority, write_pair
from tests.support.fake_deployment import FakeDeployment, fake_deployment
from tests.support.fake_stages import FRAME_SAMPLES

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]

Result = subprocess.CompletedProcess[str]


async def say(node: Any, running: FakeDeployment, *arguments: str | Path) -> Result:
    target = f"localhost:{running.gateway.server.port}"
    return await asyncio.to_thread(node.say, target, "Hello.", *map(str, arguments))


def pair_of(folder: Path, authority: Authority) -> list[str]:
    """The flags of a caller that shows a certificate of that authority."""
    files = authority.write(folder)
    return ["--tls-certificate", str(files["tls_certificate"]), "--tls-key", str(files["tls_key"])]


@pytest.mark.parametrize("way", [[], ["--unary"]])
async def test_speech_comes_over_tls(node: Any, tmp_path: Path, way: list[str]) -> None:
    ours = Authority()
    async with fake_deployment(**ours.write(tmp_path)) as running:
        result = await say(node, running, "--tls-ca", ours.write_ca(tmp_path), *way)
    assert result.returncode == 0, result.stderr
    with wave.open(str(node.out), "rb") as audio:
        assert audio.getnframes() == 10 * FRAME_SAMPLES


async def test_client_shows_its_certificate(node: Any, tmp_path: Path) -> None:
    ours, callers = Authority(), Authority()
    ca: list[str | Path] = ["--tls-ca", ours.write_ca(tmp_path)]
    async with fake_deployment(
        **ours.write(tmp_path), tls_client_ca=callers.write_ca(tmp_path, "callers.crt")
    ) as running:
        result = await say(node, running, *ca, *pair_of(tmp_path / "caller", callers))
        assert result.returncode == 0, result.stderr
        node.out.unlink()
        for other in (pair_of(tmp_path / "other", ours), []):
            result = await say(node, running, *ca, *other)
            assert result.returncode == 1
            assert "a client certificate that it trusts" in result.stderr
    assert not node.out.exists()


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("another authority", "certificate is not of an authority that is trusted here"),
        ("the usual authorities", "certificate is not of an authority that is trusted here"),
        ("plaintext", "it may want TLS"),
        ("another name", "certificate is for another name"),
    ],
)
async def test_a_refused_tls_client_fails_with_the_reason(node: Any, tmp_path: Path, case: str, message: str) -> None:
    ours, other = Authority(), Authority()
    files = write_pair(tmp_path, *ours.issue("elsewhere" if case == "another name" else "localhost"))
    cases: dict[str, list[str | Path]] = {
        "another authority": ["--tls-ca", other.write_ca(tmp_path, "other.crt")],
        "the usual authorities": ["--tls"],
        "plaintext": [],
        "another name": ["--tls-ca", ours.write_ca(tmp_path)],
    }
    async with fake_deployment(**files) as running:
        result = await say(node, running, *cases[case])
    assert result.returncode == 1
    assert "UNAVAILABLE: " in result.stderr and message in result.stderr
    assert not node.out.exists()


async def test_a_server_without_tls_has_another_error_than_an_unreachable_one(node: Any, tmp_path: Path) -> None:
    async with fake_deployment() as running:
        result = await say(node, running, "--tls-ca", Authority().write_ca(tmp_path))
    assert result.returncode == 1
    assert "the server does not speak TLS" in result.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--tls-ca missing.crt", r"missing.crt must hold the PEM certificates of the server's CAs: ENOENT"),
        ("--tls-ca junk", r"junk must hold the PEM certificates of the server's CAs: it has none"),
        ("--tls-ca broken.crt", r"broken.crt must hold the PEM certificates of the server's CAs: "),
        ("--tls --tls-certificate tls.crt --tls-key other.key", "must be a PEM certificate chain and its unencrypted"),
        ("--tls --tls-certificate tls.crt --tls-key locked.key", "must be a PEM certificate chain and its unencrypted"),
        ("--tls --tls-certificate junk --tls-key tls.key", "must be a PEM certificate chain and its unencrypted key"),
        ("--tls --tls-key tls.key", "A client certificate and its key must be given together."),
        ("--tls-certificate tls.crt", "A client certificate and its key must be given together."),
        ("--tls-certificate tls.crt --tls-key tls.key", "A client certificate needs TLS: set --tls or --tls-ca"),
    ],
)
def test_unusable_files_and_halves_are_named(node: Any, tmp_path: Path, flags: str, message: str) -> None:
    ours = Authority()
    ours.write(tmp_path)
    (tmp_path / "junk").write_text("no certificate")
    (tmp_path / "broken.crt").write_bytes(ours.pem + ours.pem.replace(b"MII", b"AAA"))
    (tmp_path / "other.key").write_bytes(ours.issue()[0])
    lock = ["openssl", "ec", "-in", "tls.key", "-aes256", "-passout", "pass:word", "-out", "locked.key"]
    subprocess.run(lock, cwd=tmp_path, check=True, capture_output=True)
    words = [word if word.startswith("--") else str(tmp_path / word) for word in flags.split()]
    result = node.say("localhost:1", "Hello.", *words)
    assert result.returncode == 1
    assert message in result.stderr
    assert "\n    at " not in result.stderr  # no stack


def test_unknown_option_is_named(node: Any) -> None:
    result = node.say("localhost:1", "Hello.", "--tsl")
    assert result.returncode == 2
    assert result.stderr.startswith("Unknown option '--tsl'")
