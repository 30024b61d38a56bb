"""What docs/security.md tells an operator to type: certificates that work, and patches that start all three stages."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from csm.codec.v1 import codec_pb2, codec_pb2_grpc

from services.common.rpc.channels.opening import open_channel
from services.common.rpc.server import StageServer
from services.common.rpc.tls import stage_credentials
from services.common.settings import StageSettings, load_settings
from services.http.settings import HttpSettings

STAGES = ["gateway", "engine", "codec"]


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "security.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def certificates(page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (commands,) = re.findall(r"^```sh\n(openssl .*?)^```$", page, re.MULTILINE | re.DOTALL)
    folder = tmp_path_factory.mktemp("certificates")
    subprocess.run(["bash", "-ec", commands], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def deployments(page: str, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Those of the gpu overlay with the patches of the page, by stage."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    (patches,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    folder = tmp_path_factory.mktemp("kubernetes") / "kubernetes"
    shutil.copytree(repository / "deploy" / "kubernetes", folder)
    overlay = folder / "overlays" / "gpu"
    text = (overlay / "kustomization.yaml").read_text()
    assert yaml.safe_load(text)["patches"] and list(yaml.safe_load(text))[-1] == "patches"
    (overlay / "kustomization.yaml").write_text(f"{text.rstrip()}\n{patches}")
    done = subprocess.run(["kubectl", "kustomize", str(overlay)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    documents = [d for d in yaml.load_all(done.stdout, yaml.CSafeLoader) if d["kind"] == "Deployment"]
    return {document["metadata"]["name"]: document["spec"]["template"]["spec"] for document in documents}


async def test_stages_accept_the_gateway_s_certificate_and_refuse_callers_without_one(certificates: Path) -> None:
    settings = StageSettings(
        host="127.0.0.1",
        tls_certificate=certificates / "codec.crt",
        tls_key=certificates / "codec.key",
        tls_client_ca=certificates / "ca.crt",
    )
    server = StageServer(settings, [])
    await server.start()
    ca, own = certificates / "ca.crt", (certificates / "gateway.crt", certificates / "gateway.key")
    codes = []
    for tls in (stage_credentials(ca, *own), stage_credentials(ca, None, None)):
        async with open_channel(f"dns:///localhost:{server.port}", tls.current.credentials) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                stub: Any = codec_pb2_grpc.CodecServiceStub(channel)  # type: ignore[no-untyped-call]
                await stub.GetCodecInfo(codec_pb2.GetCodecInfoRequest(), timeout=60)
        codes.append(failed.value.code().name)
    await server.drain(0)
    assert codes == ["UNIMPLEMENTED", "UNAVAILABLE"]  # it serves nothing, but says so only to who gets in


@pytest.mark.parametrize("stage", STAGES)
def test_certificates_hold_for_strict_checks(certificates: Path, stage: str) -> None:
    """As Python's from 3.13 on."""
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "ca.crt", f"{stage}.crt"]
    done = subprocess.run(command, cwd=certificates, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def carries(certificate: Path, name: str) -> bool:
    command = ["openssl", "x509", "-noout", "-in", str(certificate), "-checkhost", name]
    return "does match" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("stage", STAGES)
def test_certificate_carries_the_name_that_the_gateway_dials(certificates: Path, stage: str) -> None:
    assert carries(certificates / f"{stage}.crt", stage)


def test_patched_door_calls_the_gateway_over_tls_under_a_name_of_its_certificate(
    deployments: dict[str, Any], certificates: Path
) -> None:
    """Without it the door stays ready, and every request fails."""
    pod = deployments["http"]
    (container,) = pod["containers"]
    settings = load_settings(HttpSettings, container["args"])
    assert str(settings.gateway_tls_ca) == "/etc/csm/tls/ca.crt"
    assert "/etc/csm/tls" in [mount["mountPath"] for mount in container["volumeMounts"]]
    # Its pod has no fsGroup, so it reads only what everyone may read.
    assert "fsGroup" not in pod["securityContext"]
    (secret,) = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "tls"]
    assert secret == {"secretName": "http-tls"}
    name = settings.gateway_target.removeprefix("dns:///").partition(":")[0]
    assert carries(certificates / "gateway.crt", name)


@pytest.mark.parametrize("stage", STAGES)
def test_patched_stage_takes_the_flags_and_mounts_their_files(
    deployments: dict[str, Any], settings_classes: Mapping[str, type[StageSettings]], stage: str
) -> None:
    pod = deployments[stage]
    (container,) = pod["containers"]
    settings = load_settings(settings_classes[stage], container["args"])
    files = {
        value for name, value in settings if isinstance(value, Path) and name.startswith(("tls_", "stage_", "auth_"))
    }
    assert len(files) == (4 if stage == "gateway" else 3)
    folders = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    secrets = {volume["name"]: volume.get("secret", {}).get("secretName") for volume in pod["volumes"]}
    mounted = {(str(file), secrets[folders[str(file.parent)]]) for file in files}
    expected = {(f"/etc/csm/tls/{name}", f"{stage}-tls") for name in ("tls.crt", "tls.key", "ca.crt")}
    if stage == "gateway":
        expected.add(("/etc/csm/tokens/tokens.json", "gateway-tokens"))
    assert mounted == expected
