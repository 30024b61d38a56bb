"""What a person needs to know to call the server that has just started."""

from __future__ import annotations

from services.common.settings import host_and_port

_USAGE = """
Ready on {target}. Ctrl-C stops it.

  csm         csm say "Hello from the other side." --out hello.wav --target {target}

  Python      from csm_client import Client
              speech = Client("{target}").synthesize("Hello from the other side.")
              speech.samples, speech.sample_rate_hz

  grpcurl     grpcurl -plaintext {target} list
              grpcurl -plaintext -d '{{"input": {{"text": "Hello from the other side."}},
                "audio_config": {{"audio_encoding": "AUDIO_ENCODING_WAV"}}}}' \\
                {target} csm.v1.TextToSpeechService/StreamSynthesize

  health      grpcurl -plaintext -d '{{"service": "readiness"}}' {health_target} grpc.health.v1.Health/Check
"""


def usage(host: str, port: int, health_port: int) -> str:
    """host: the address that is listened on"""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return _USAGE.format(target=host_and_port(reachable, port), health_target=host_and_port(reachable, health_port))
