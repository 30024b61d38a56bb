"""Torch gets no more threads than the CPUs that the process's control group grants it."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch

from services.codec import load as codec_load
from services.codec.settings import CodecSettings
from services.common.process import cpus
from services.common.process.cpus import choose_threads, cpu_limit, usable_cpus
from services.engine import load as engine_load
from services.engine.settings import EngineSettings

V2, V1 = "0::{}", "12:cpuset:/elsewhere\n7:cpu,cpuacct:{}"


def machine(root: Path, memberships: str, files: dict[str, str]) -> Path:
    """A file system with these control groups."""
    for name, text in (files | {"/proc/self/cgroup": memberships + "\n"}).items():
        file = root / name.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("memberships", "files", "limit"),
    [
        (V2.format("/"), {"/sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        (V2.format("/"), {"/sys/fs/cgroup/cpu.max": "max 100000\n"}, math.inf),
        (V2.format("/a.slice/b"), {"/sys/fs/cgroup/a.slice/cpu.max": "150000 100000\n"}, 1.5),
        (
            V2.format("/a/b"),
            {"/sys/fs/cgroup/a/cpu.max": "300000 100000\n", "/sys/fs/cgroup/a/b/cpu.max": "200000 100000\n"},
            2,
        ),
        (V2.format("/"), {}, math.inf),
        (
            V1.format("/kubepods/pod/1"),  # the container sees its own group at the top
            {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            2.5,
        ),
        (
            V1.format("/a"),
            {"/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1\n", "/sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n"},
            math.inf,
        ),
        (V2.format("/"), {"/sys/fs/cgroup/cpu.max": "unreadable\n"}, math.inf),
    ],
)
def test_the_limit_is_the_lowest_of_the_groups(
    tmp_path: Path, memberships: str, files: dict[str, str], limit: float
) -> None:
    assert cpu_limit(machine(tmp_path, memberships, files)) == limit


def test_a_system_without_control_groups_has_no_limit(tmp_path: Path) -> None:
    assert cpu_limit(tmp_path) == math.inf


@pytest.mark.parametrize(
    ("asked", "limit", "threads"), [(0, math.inf, 128), (0, 4, 4), (0, 4.9, 4), (0, 0.5, 1), (0, 256, 128), (16, 4, 16)]
)
def test_threads_are_as_many_as_the_limit_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: int, limit: float, threads: int
) -> None:
    monkeypatch.setattr(cpus, "cpu_limit", lambda: limit)
    assert choose_threads(asked, of_torch=128) == threads


@pytest.mark.parametrize(
    ("allowed", "limit", "usable"), [(8, math.inf, 8), (8, 2.5, 2), (8, 0.5, 1), (2, 16, 2), (None, math.inf, 6)]
)
def test_usable_cpus_are_those_allowed_within_the_limit(
    monkeypatch: pytest.MonkeyPatch, allowed: int | None, limit: float, usable: int
) -> None:
    """allowed: to the process; None where the system cannot say, which has six."""
    monkeypatch.setattr(cpus, "cpu_limit", lambda: limit)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    if allowed is None:
        monkeypatch.delattr(os, "sched_getaffinity")
    else:
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(allowed)))
    assert usable_cpus() == usable


class LoadingError(Exception):
    """The weights are about to be loaded."""


@pytest.mark.parametrize("stage", ["engine", "codec"])
def test_stages_keep_to_the_limit(stage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def open_bundle(*_: object, **__: object) -> None:
        raise LoadingError

    chosen: list[int] = []
    for module in (engine_load, codec_load):
        monkeypatch.setattr(module, "open_bundle", open_bundle)
    monkeypatch.setattr(cpus, "cpu_limit", lambda: 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 128)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    with pytest.raises(LoadingError):
        if stage == "engine":
            engine_load.load_engine(EngineSettings(bundle="x"))
        else:
            settings = CodecSettings(bundle="x", watermark_keyring=tmp_path / "marks.json")
            codec_load.load_codec(settings, lambda usable: None)
    assert chosen == [3]
