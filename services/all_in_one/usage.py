"""What a person needs to know to call the server that has just started."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from services.common.settings import host_and_port, reachable_host

log = logging.getLogger("csm.all_in_one")

_USAGE = """
Ready on {target}. Ctrl-C stops it.
{activate}
  csm         csm say "Hello from the other side." --out hello.wav --target {target}{csm_tls}

  Python      {python_import}from csm_client import Client
              speech = Client("{target}"{python_tls}).synthesize("Hello from the other side.")
              speech.samples, speech.sample_rate_hz

  grpcurl     grpcurl {grpcurl_tls} {target} list
              grpcurl {grpcurl_tls} -d '{{"input": {{"text": "Hello from the other side."}},
                "audio_config": {{"audio_encoding": "AUDIO_ENCODING_WAV"}}}}' \\
                {target} csm.v1.TextToSpeechService/StreamSynthesize

{http}  health      grpcurl -plaintext -d '{{"service": "readiness"}}' {health_target} grpc.health.v1.Health/Check
"""


_HTTP = """  HTTP        curl{curl_tls} {url}/v1/audio/speech -H 'Content-Type: application/json' \\
                -d '{{"input": "Hello from the other side.", "response_format": "wav"}}' --output hello.wav
              OpenAI(base_url="{url}/v1", api_key="none").audio.speech.create(...)

"""

_PAGE = """  page        {url}/ in a browser

"""

_ACTIVATE = """
To have csm and csm_client in another terminal:  . {script}
"""


def show(text: str) -> None:
    """Prints the text. A standard output that cannot be written (full disk, closed pipe) is no reason not to serve."""
    try:
        print(text, flush=True)
    except OSError as error:
        log.warning("standard output cannot be written: %s", error)
        sys.stdout = open(os.devnull, "w")  # Python writes what is left when it ends, and would fail too


def usage(
    host: str, port: int, health_port: int, http_url: str = "", *, has_page: bool = False, has_tls: bool = False
) -> str:
    """host: the address that is listened on; http_url: of the HTTP door, "" where it is off; has_page: whether that has
    the page; has_tls: whether both ask for TLS, as the health port never does
    """
    address = reachable_host(host)
    script = Path(sys.prefix, "bin", "activate")  # of a virtual environment, as make has one
    page = _PAGE.format(url=http_url) if has_page else ""
    return _USAGE.format(
        target=host_and_port(address, port),
        health_target=host_and_port(address, health_port),
        activate=_ACTIVATE.format(script=script) if script.is_file() else "",
        csm_tls=" --tls-ca ca.crt" if has_tls else "",
        python_import="from pathlib import Path\n              " if has_tls else "",
        python_tls=', tls_ca=Path("ca.crt")' if has_tls else "",
        grpcurl_tls="-cacert ca.crt" if has_tls else "-plaintext",
        http=_HTTP.format(url=http_url, curl_tls=" --cacert ca.crt" if has_tls else "") + page if http_url else "",
    )
