"""The program that builds and runs containers: Docker where its daemon answers, else Podman as root.

Podman gets storage of its own, builds in a chroot and runs without cgroups, so that it also works where another
container or virtual machine forbids more. Both take the same arguments.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUILD_SECONDS = 1500.0  # of one image
COMMAND_SECONDS = 120.0  # of anything else
MAX_LIMIT = 16384  # of open files and of processes of a container
# crun refuses cgroups of both versions side by side, so Podman gets a mount namespace without those of version 2. A
# process that sleeps holds it, because networks of containers are mounts in it.
BOTH_CGROUPS = Path("/sys/fs/cgroup/unified")
HOLDER = ("unshare", "--mount", "sh", "-c", f"umount {BOTH_CGROUPS} && echo ready && exec sleep infinity")


class ContainerToolError(Exception):
    """No container program works here, or it failed. The message has the end of its output."""


@dataclass(frozen=True, eq=False)
class ContainerTool:
    """Docker or Podman with the environment it needs."""

    name: str  # "docker" or "podman"
    prefix: tuple[str, ...]  # the command before its arguments
    compose_prefix: tuple[str, ...]  # that of Compose
    environment: dict[str, str]

    def run(self, *arguments: str, seconds: float = COMMAND_SECONDS) -> str:
        """Standard output of the command.

        Raises:
            ContainerToolError: It failed, or took longer than `seconds`.
        """
        return _output((*self.prefix, *arguments), self.environment, seconds)

    def compose(self, *arguments: str, seconds: float = COMMAND_SECONDS, **variables: str) -> str:
        """Standard output of a Compose command, with these variables in its environment; raises as `run` does."""
        return _output((*self.compose_prefix, *arguments), {**self.environment, **variables}, seconds)

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        """The tool's `inspect` of an image, a container or a volume."""
        (found,) = json.loads(self.run(kind, "inspect", name))
        known: dict[str, Any] = found
        return known

    def image_bytes(self, image: str) -> int:
        """The unpacked size of an image with all its layers."""
        return int(self.inspect("image", image)["Size"])


def _output(command: tuple[str, ...], environment: dict[str, str], seconds: float) -> str:
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:  # its output is bytes even with `text`
        printed = b"".join(part for part in (error.stdout, error.stderr) if part).decode(errors="replace")
        raise ContainerToolError(f"{' '.join(command)}: no end after {seconds:.0f} s\n{printed[-3000:]}") from None
    if done.returncode:
        raise ContainerToolError(f"{' '.join(command)}: {(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def find_tool(folder: Path) -> ContainerTool:
    """Docker if its daemon answers, else Podman with storage under `folder`.

    Raises:
        ContainerToolError: Neither works.
    """
    if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        return ContainerTool("docker", ("docker",), ("docker", "compose"), dict(os.environ))
    if not shutil.which("podman") or not shutil.which("crun"):
        raise ContainerToolError(
            "Docker does not answer, and Podman is not installed;"
            " on Debian: apt-get install podman crun netavark aardvark-dns iptables catatonit"
        )
    if os.getuid() != 0:
        raise ContainerToolError("Docker does not answer, and without it Podman builds as root alone")
    inside = held_namespace() if BOTH_CGROUPS.is_mount() else ()
    compose = (str(Path(sys.executable).with_name("podman-compose")), "--in-pod=false")
    environment = podman_environment(folder.resolve())
    return ContainerTool("podman", (*inside, "podman"), (*inside, *compose), environment)


def held_namespace() -> tuple[str, ...]:
    """The command that runs another in a mount namespace without cgroups of version 2; it ends with this process."""
    holder = subprocess.Popen(HOLDER, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    atexit.register(holder.kill)
    assert holder.stdout is not None
    if holder.stdout.readline() != b"ready\n":
        raise ContainerToolError(f"Cgroups of both versions are mounted, and {BOTH_CGROUPS} cannot be left out")
    return ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", f"--wd={Path.cwd()}")


def podman_environment(folder: Path) -> dict[str, str]:
    """The environment with Podman's configuration, which is written into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    limits = [f'"{name}={soft}:{hard}"' for name, (soft, hard) in process_limits().items()]
    containers, storage = folder / "containers.conf", folder / "storage.conf"
    containers.write_text(
        f'[containers]\ncgroups = "disabled"\ndefault_ulimits = [{", ".join(limits)}]\n'
        '[engine]\ncgroup_manager = "cgroupfs"\nruntime = "crun"\nevents_logger = "file"\n'
        f'[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "{folder}/networks"\n',
        encoding="utf-8",
    )
    storage.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/storage/root"\nrunroot = "{folder}/storage/run"\n',
        encoding="utf-8",
    )
    return {
        **os.environ,
        "CONTAINERS_CONF": str(containers),
        "CONTAINERS_STORAGE_CONF": str(storage),
        "BUILDAH_ISOLATION": "chroot",
    }


def process_limits() -> dict[str, tuple[int, int]]:
    """Soft and hard limits for containers, at most this process's own, as it may not be able to exceed them."""
    found = {}
    for name, kind in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        soft, hard = (MAX_LIMIT if value == resource.RLIM_INFINITY else value for value in resource.getrlimit(kind))
        found[name] = (min(soft, MAX_LIMIT), min(hard, MAX_LIMIT))
    return found
