"""The program that builds and runs containers: Docker where its daemon answers, else Podman as root.

Podman gets storage of its own, builds in a chroot and runs without cgroups and on the host's network, so that it also works
inside another container. Both take the same arguments.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUILD_SECONDS = 1500.0  # of one image
COMMAND_SECONDS = 120.0  # of anything else
# crun refuses cgroups of both versions side by side, so Podman gets a mount namespace without those of version 2.
BOTH_CGROUPS = Path("/sys/fs/cgroup/unified")
WITHOUT_SECOND_CGROUPS = ("unshare", "--mount", "sh", "-c", f'umount {BOTH_CGROUPS} && exec "$@"', "sh")


class ContainerToolError(Exception):
    """No program for containers works here, or it failed; the message holds what it printed last."""


@dataclass(frozen=True)
class ContainerTool:
    """Docker or Podman with the environment it needs."""

    name: str  # "docker" or "podman"
    prefix: tuple[str, ...]  # the command before its arguments
    environment: dict[str, str]

    def run(self, *arguments: str, seconds: float = COMMAND_SECONDS, check: bool = True) -> str:
        """Standard output of the command.

        Raises:
            ContainerToolError: It failed and `check` is set, or took longer than `seconds`.
        """
        try:
            done = subprocess.run(
                [*self.prefix, *arguments], env=self.environment, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            raise ContainerToolError(f"{self.name} {' '.join(arguments)}: no end after {seconds:.0f} s") from None
        if check and done.returncode:
            raise ContainerToolError(f"{self.name} {' '.join(arguments)}: {(done.stdout + done.stderr)[-3000:]}")
        return done.stdout

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        """What the tool knows of an image, a container or a volume."""
        (found,) = json.loads(self.run(kind, "inspect", name))
        known: dict[str, Any] = found
        return known

    def image_bytes(self, image: str) -> int:
        """The unpacked size of an image with all its layers."""
        return int(self.inspect("image", image)["Size"])


def find_tool(folder: Path) -> ContainerTool:
    """Docker if its daemon answers, else Podman with storage under `folder`.

    Raises:
        ContainerToolError: Neither works.
    """
    if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        return ContainerTool("docker", ("docker",), dict(os.environ))
    if not shutil.which("podman") or not shutil.which("crun"):
        raise ContainerToolError("Docker does not answer, and Podman is not installed; on Debian: apt-get install podman crun")
    if os.getuid() != 0:
        raise ContainerToolError("Docker does not answer, and without it Podman builds as root alone")
    prefix = (*WITHOUT_SECOND_CGROUPS, "podman") if BOTH_CGROUPS.is_mount() else ("podman",)
    return ContainerTool("podman", prefix, podman_environment(folder.resolve()))


def podman_environment(folder: Path) -> dict[str, str]:
    """The environment with Podman's configuration, which is written into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    limits = [f'"{name}={soft}:{hard}"' for name, (soft, hard) in process_limits().items()]
    containers, storage = folder / "containers.conf", folder / "storage.conf"
    containers.write_text(
        f'[containers]\ncgroups = "disabled"\nnetns = "host"\ndefault_ulimits = [{", ".join(limits)}]\n'
        '[engine]\ncgroup_manager = "cgroupfs"\nruntime = "crun"\nevents_logger = "file"\n',
        encoding="utf-8",
    )
    storage.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/storage/root"\nrunroot = "{folder}/storage/run"\n', encoding="utf-8"
    )
    return {
        **os.environ,
        "CONTAINERS_CONF": str(containers),
        "CONTAINERS_STORAGE_CONF": str(storage),
        "BUILDAH_ISOLATION": "chroot",
    }


def process_limits() -> dict[str, tuple[int, int]]:
    """This process's own limits: a container that asks for more is refused where they cannot be raised."""
    return {
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
        "nproc": resource.getrlimit(resource.RLIMIT_NPROC),
    }
