"""A cluster as `kubectl` sees it: one context, one namespace of the tests' own."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Manifest = dict[str, Any]

SCRAPE = (
    "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{}/metrics', timeout=20).read().decode())"
)


class KubectlError(Exception):
    """kubectl refused or failed. The message is what it wrote."""


@dataclass(frozen=True)
class Cluster:
    """context: of kubectl's configuration; namespace: made and deleted by the tests."""

    context: str
    namespace: str

    def kubectl(self, *arguments: str, written: str | None = None, seconds: float = 120.0) -> str:
        """What a command prints. written: its standard input. Raises KubectlError, subprocess.TimeoutExpired."""
        done = subprocess.run(
            self._command(*arguments), input=written, capture_output=True, text=True, check=False, timeout=seconds
        )
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def _command(self, *arguments: str) -> list[str]:
        return ["kubectl", "--context", self.context, "--namespace", self.namespace, *arguments]

    def secret(self, name: str, files: Mapping[str, bytes], folder: Path) -> None:
        """Makes a Secret of files, or replaces it, as docs/deploy.md tells. folder: where the files are written."""
        arguments = []
        for key, content in files.items():
            (folder / key).write_bytes(content)
            arguments.append(f"--from-file={folder / key}")
        made = self.kubectl("create", "secret", "generic", name, *arguments, "--dry-run=client", "--output=yaml")
        self.kubectl("apply", "--filename", "-", written=made)

    def keyring(self, name: str) -> dict[str, Any]:
        """What a Secret has in keyring.json."""
        encoded = self.kubectl("get", "secret", name, "--output", "jsonpath={.data.keyring\\.json}")
        found: dict[str, Any] = json.loads(base64.b64decode(encoded))
        return found

    def pods(self, stage: str) -> list[str]:
        """Names of the pods of a stage that are ready and not being deleted."""
        answer = self.kubectl("get", "pods", "--selector", f"app.kubernetes.io/name={stage}", "--output", "json")
        return [pod["metadata"]["name"] for pod in json.loads(answer)["items"] if _serves(pod)]

    def kill(self, pod: str) -> None:
        """SIGKILL at once, without a drain."""
        self.kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")

    def rolled_out(self, *stages: str, seconds: float) -> None:
        """Waits until every replica of the stages is new and ready."""
        for stage in stages:
            self.kubectl("rollout", "status", f"deployment/{stage}", f"--timeout={seconds:.0f}s", seconds=seconds + 30)

    def total(self, pod: str, port: int, metric: str) -> float:
        """The sum of a metric over its labels, read inside the pod; 0 where it has none yet."""
        lines = self.kubectl("exec", pod, "--", "python", "-c", SCRAPE.format(port)).splitlines()
        return sum(float(line.split()[-1]) for line in lines if re.match(rf"{metric}[{{ ]", line))

    def evict(self, pod: str) -> None:
        """As a node's drain does. Raises KubectlError where a disruption budget forbids it."""
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": self.namespace}}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/eviction"
        self.kubectl("create", "--raw", path, "--filename", "-", written=json.dumps(body))

    @contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[int]:
        """A port of this machine that leads to one pod, for as long as that pod lives."""
        command = self._command("port-forward", target, f":{port}")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                found = re.search(r"127\.0\.0\.1:(\d+) ->", line)
                if found is None:
                    raise KubectlError(f"port-forward {target} {port}: {line.strip() or 'ended'}")
                yield int(found[1])
            finally:
                process.terminate()


def _serves(pod: Manifest) -> bool:
    conditions = {condition["type"]: condition["status"] for condition in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def wait_for(what: str, holds: Callable[[], bool], seconds: float, pause_seconds: float = 0.5) -> float:
    """Seconds until it holds. Raises TimeoutError, which names `what`."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"{what}: not after {seconds:.0f} s")
        time.sleep(pause_seconds)
    return time.monotonic() - began


def context_asked_for() -> str | None:
    """The context that the caller names. There is no default: these tests delete pods."""
    return os.environ.get("CSM_TEST_CONTEXT") or None
