"""The components `stage-tls` and `tokens` on a cluster, and keys that change while the stages run.

The tests stand in for cert-manager: they make its Secrets, as its Certificates ask for them.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from csm.codec.v1 import codec_pb2, codec_pb2_grpc
from csm_client import Client, ServerError, UnauthenticatedError

from recipes.images.catalog import ROOT
from services.gateway.auth.tokens import digest_of, new_token
from tests.cluster.cluster import Cluster, Manifest, wait_for
from tests.cluster.conftest import apply, make_keyrings, namespace, rendered, wait_until_ready
from tests.support.authority import Authority
from tests.support.wav import wav_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

TEXT = "A word behind a lock."
COMPONENTS = ("stage-tls", "tokens")
# Until a changed Secret is in the pods' files, and the gateways have asked the codec for its keys again.
SECRET_SECONDS = 240.0


@pytest.fixture(scope="module")
def token() -> str:
    return new_token()


@pytest.fixture(scope="module")
def secured(cluster: Cluster, token: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """TLS between the stages, and a gateway that asks for a token."""
    folder = tmp_path_factory.mktemp("secured")
    with namespace(cluster):
        manifests = _with_components(cluster, folder / "project")
        certificates = [item for item in manifests if item["apiVersion"].startswith("cert-manager.io/")]
        apply(cluster, [item for item in manifests if item not in certificates])
        _issue(cluster, Authority(), certificates, folder)
        make_keyrings(cluster, folder)
        entry = {"name": "tests", "sha256": digest_of(token)}
        cluster.secret("gateway-tokens", {"tokens.json": json.dumps([entry]).encode()}, folder)
        cluster.kubectl("scale", "deployment/http", "--replicas=0")  # it has no token of its own
        wait_until_ready(cluster)
        yield cluster


def _with_components(cluster: Cluster, copy: Path) -> list[Manifest]:
    overlay = Path("tests", "cluster", "overlay")
    for folder in (Path("deploy", "kubernetes"), overlay):
        shutil.copytree(ROOT / folder, copy / folder)
    with (copy / overlay / "kustomization.yaml").open("a") as file:
        file.write("components:\n")
        file.writelines(f"  - ../../../deploy/kubernetes/components/{name}\n" for name in COMPONENTS)
    return rendered(cluster, copy / overlay)


def _issue(cluster: Cluster, authority: Authority, certificates: list[Manifest], folder: Path) -> None:
    """The Secrets that cert-manager makes: the key, its certificate and that of the authority."""
    for certificate in certificates:
        for name in certificate["spec"].get("dnsNames", []):
            key, signed = authority.issue(name)
            files = {"tls.key": key, "tls.crt": signed, "ca.crt": authority.pem}
            cluster.secret(certificate["spec"]["secretName"], files, folder)


@pytest.fixture
def client(secured: Cluster, token: str) -> Iterator[Client]:
    with secured.forwarded("service/gateway", 50051) as port, Client(f"127.0.0.1:{port}", token=token) as csm:
        yield csm


def test_gateway_speaks_to_stages_over_tls(client: Client) -> None:
    assert client.synthesize(TEXT, seed=5).duration_s > 0.5


def test_stage_refuses_a_caller_without_a_certificate(secured: Cluster) -> None:
    """In plaintext, which the stages took before."""
    pod = secured.pods("codec")[0]
    with secured.forwarded(f"pod/{pod}", 50062) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        info = codec_pb2_grpc.CodecServiceStub(channel).GetCodecInfo  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.RpcError) as refused:
            info(codec_pb2.GetCodecInfoRequest(), timeout=20)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_caller_without_a_token_is_refused(secured: Cluster) -> None:
    with secured.forwarded("service/gateway", 50051) as port, Client(f"127.0.0.1:{port}") as csm:
        with pytest.raises(UnauthenticatedError):
            csm.synthesize(TEXT)


def test_new_token_is_taken_and_an_old_one_refused_without_a_restart(
    secured: Cluster, token: str, tmp_path: Path
) -> None:
    other = new_token()
    pods = set(secured.pods("gateway"))

    def only(valid: str) -> None:
        entry = {"name": "tests", "sha256": digest_of(valid)}
        secured.secret("gateway-tokens", {"tokens.json": json.dumps([entry]).encode()}, tmp_path)

    with secured.forwarded("service/gateway", 50051) as port:
        target = f"127.0.0.1:{port}"
        with Client(target, token=token) as before, Client(target, token=other) as after:
            only(other)
            wait_for("the new token is taken", lambda: _answers(after), SECRET_SECONDS, pause_seconds=2)
            assert not _answers(before)
            only(token)
            wait_for("the old token is taken again", lambda: _answers(before), SECRET_SECONDS, pause_seconds=2)
    assert set(secured.pods("gateway")) == pods


def _answers(client: Client) -> bool:
    try:
        client.server_info()
    except UnauthenticatedError:
        return False
    return True


def test_new_watermark_key_marks_without_a_restart_and_the_old_mark_is_found(
    secured: Cluster, client: Client, tmp_path: Path
) -> None:
    """The three steps of docs/deploy.md, but for the last."""
    pods = set(secured.pods("codec"))
    before = client.synthesize(TEXT * 3, seed=5)
    keyring = secured.keyring("watermark-keyring")
    keyring["keys"]["key-2"] = secrets.token_hex(5)

    def replaced() -> None:
        secured.secret("watermark-keyring", {"keyring.json": json.dumps(keyring).encode()}, tmp_path)

    def known() -> bool:
        """By every codec: calls take turns."""
        try:
            return all(
                client.detect_watermark(wav_of(before.samples, before.sample_rate_hz), ["key-2"]) for _ in range(6)
            )
        except ServerError:
            return False

    replaced()
    wait_for("every codec knows both keys", known, SECRET_SECONDS, pause_seconds=5)
    keyring["active"] = "key-2"
    replaced()

    def marked_with_the_new_key() -> bool:
        speech = client.synthesize(TEXT * 3, seed=5)
        return client.detect_watermark(wav_of(speech.samples, speech.sample_rate_hz)).key_id == "key-2"

    wait_for("speech is marked with the new key", marked_with_the_new_key, SECRET_SECONDS, pause_seconds=5)
    assert client.detect_watermark(wav_of(before.samples, before.sample_rate_hz)).key_id == "key-1"
    assert set(secured.pods("codec")) == pods
