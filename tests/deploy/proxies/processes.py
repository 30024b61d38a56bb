"""The proxies of deploy/ as processes, with the ports of a test in place of those in their files."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.support.network.ports import free_ports

DEPLOY = Path(__file__).parents[3] / "deploy"
WAIT_S = 30.0
NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/speech.conf;
}}
"""


def replaced(text: str, pattern: str, put: str) -> str:
    """The text with its only match of the pattern replaced."""
    text, found = re.subn(pattern, put, text)
    assert found == 1, (pattern, found)
    return text


@asynccontextmanager
async def haproxy(folder: Path, gateways: Sequence[tuple[int, int]]) -> AsyncIterator[str]:
    """Where it listens for gRPC. gateways: port and health port of the two"""
    with free_ports(1) as (free,):
        target = f"127.0.0.1:{free}"
        text = replaced((DEPLOY / "haproxy" / "haproxy.cfg").read_text(encoding="utf-8"), r"127\.0\.0\.1:50050", target)
        for number, (port, health_port) in enumerate(gateways):
            here = f"server gateway-{number} 127.0.0.1:{port} port {health_port}"
            text = replaced(text, rf"server gateway-{number} \S+ port \d+", here)
        (folder / "haproxy.cfg").write_text(text)
        async with running([target], "haproxy", "-db", "-f", str(folder / "haproxy.cfg")):
            yield target


@asynccontextmanager
async def nginx(
    folder: Path, *, gateways: Sequence[int] = (1, 1), door: int = 1, tls: Mapping[str, Path] = MappingProxyType({})
) -> AsyncIterator[tuple[str, str]]:
    """Where it listens for HTTP and for gRPC. gateways, door: ports. tls: files of a certificate, for TLS on both"""
    with free_ports(2) as ports:
        http, grpc = (f"127.0.0.1:{port}" for port in ports)
        text = (DEPLOY / "nginx" / "speech.conf").read_text(encoding="utf-8")
        secure = "ssl http2;" + "".join(f" ssl_{name.removeprefix('tls_')} {path};" for name, path in tls.items())
        secure = secure.replace("ssl_key", "ssl_certificate_key")
        text = replaced(text, r"listen 127\.0\.0\.1:8080;", f"listen {http} {secure if tls else ';'}")
        text = replaced(text, r"listen 127\.0\.0\.1:50050 http2;", f"listen {grpc} {secure if tls else 'http2;'}")
        text = replaced(text, r"server 127\.0\.0\.1:8000;", f"server 127.0.0.1:{door};")
        for number, port in enumerate(gateways, 1):
            text = replaced(text, rf"server 127\.0\.0\.{number}:50051 ", f"server 127.0.0.1:{port} ")
        (folder / "speech.conf").write_text(text)
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
        command = ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
        async with running([http, grpc], *command):
            yield http, grpc


@asynccontextmanager
async def caddy(
    folder: Path, *, gateways: Sequence[int] = (1, 1), door: int = 1, tls: Mapping[str, Path] = MappingProxyType({})
) -> AsyncIterator[tuple[str, str]]:
    """As nginx."""
    with free_ports(2) as ports:
        http, grpc = (f"127.0.0.1:{port}" for port in ports)
        text = (DEPLOY / "caddy" / "Caddyfile").read_text(encoding="utf-8")
        secure = f"tls {tls['tls_certificate']} {tls['tls_key']}" if tls else ""
        for place, target in (("127.0.0.1:8080", http), ("127.0.0.1:50050", grpc)):
            address = f"https://{target.replace('127.0.0.1', 'localhost')}" if tls else f"http://{target}"
            text = replaced(text, rf"http://{re.escape(place)} {{\n", f"{address} {{\n\t{secure}\n")
        text = replaced(text, r"reverse_proxy 127\.0\.0\.1:8000", f"reverse_proxy 127.0.0.1:{door}")
        behind = " ".join(f"h2c://127.0.0.1:{port}" for port in gateways)
        text = replaced(text, r"h2c://127\.0\.0\.1:50051 h2c://127\.0\.0\.2:50051", behind)
        text = replaced(text, r"\A(#.*\n)*\{\n", "{\n\tadmin off\n\tauto_https off\n")
        (folder / "Caddyfile").write_text(text)
        command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
        async with running([http, grpc], *command, XDG_CONFIG_HOME=str(folder), XDG_DATA_HOME=str(folder)):
            yield http, grpc


FRONTS = {"nginx": nginx, "caddy": caddy}


@asynccontextmanager
async def running(targets: Sequence[str], *command: str, **environment: str) -> AsyncIterator[None]:
    """The program, once it listens on all targets. Skips the test where it is not installed."""
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed (Debian: apt-get install {command[0]})")
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **environment})
    try:
        async with asyncio.timeout(WAIT_S):
            for target in targets:
                await listening(target)
        yield
    finally:
        process.kill()
        await process.wait()


async def listening(target: str) -> None:
    host, port = target.split(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
