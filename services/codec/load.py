"""Loads what the codec stage serves: bundle, Mimi, watermark networks, keys. Slow and blocking: for a thread."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from csm_bundle.bundle import Bundle, open_bundle
from csm_bundle.errors import BundleError
from csm_bundle.runtime.device import check_device
from csm_bundle.safetensors_files import weights_digest
from csm_codec.codec import Codec
from csm_codec.mimi.decoder import Form, MimiDecoder, usual_form
from csm_codec.mimi.loader import Mimi, load_mimi
from csm_codec.stream import DecodeOptions, Failed
from csm_codec.watermark.embed.embedder import Embedder
from csm_codec.watermark.networks.silentcipher import SilentCipher, load_silentcipher
from csm_codec.watermark.stream.look_ahead import LookAhead
from services.codec.keyring import FollowedKeyring
from services.codec.settings import CodecSettings
from services.common.process.cpus import choose_threads
from services.common.setting_types import expanded

log = logging.getLogger("csm.codec")

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_WARM_UP_FRAMES = 3


@dataclass(frozen=True, slots=True)
class LoadedCodec:
    """Codecs over the same weights that have decoded some frames in every lane, and their parts."""

    codecs: tuple[Codec, ...]  # each for a thread of its own
    mimi: Mimi
    silentcipher: SilentCipher
    keyring: FollowedKeyring
    latency_samples: int
    bundle: Bundle
    torch_threads: int | None  # in each codec's thread; None leaves torch's number
    resume_digest: str  # of all weights and of the watermark's strength, which the audio of a clip depends on


def load_codec(settings: CodecSettings, on_keyring_reload: Callable[[bool], None]) -> LoadedCodec:
    """on_keyring_reload: see FollowedFiles

    Raises BundleError, CheckpointError, KeyringError, DeviceError."""
    check_device(settings.device)
    threads = choose_threads(settings.threads, torch.get_num_threads())
    torch.set_num_threads(threads)
    keyring = FollowedKeyring(
        expanded(settings.watermark_keyring),
        allow_public_key=settings.allow_public_watermark_key,
        on_reload=on_keyring_reload,
    )
    bundle = open_bundle(
        settings.bundle, revision=settings.revision, offline=settings.offline, cache_dir=settings.cache_dir
    )
    log.info("loading %s on %s, watermark key %s", bundle.name, settings.device, keyring.current.active.id)
    mimi = load_mimi(bundle.path("mimi"), device=settings.device)
    _check_identity(bundle, mimi)
    silentcipher = load_silentcipher(bundle.path("silentcipher"), device=settings.device)
    sdr_db = bundle.message_sdr_db if settings.watermark_sdr_db is None else settings.watermark_sdr_db
    if sdr_db is not None:
        silentcipher = replace(silentcipher, hparams=replace(silentcipher.hparams, sdr_db=sdr_db))
    on_cpu = torch.device(settings.device).type == "cpu"
    in_frames = usual_form(mimi) is Form.FRAMES
    num_codecs = settings.num_codecs(threads) if in_frames else 1
    num_lanes, width = settings.lanes(num_codecs, on_cpu=on_cpu)
    decoder = MimiDecoder(
        mimi,
        num_lanes=num_lanes,
        lane_width=width,
        dtype=_DTYPES[settings.dtype],
        constant_shape=settings.constant_shape,
    )
    embedder = Embedder(
        silentcipher,
        sample_rate_hz=mimi.identity.sample_rate_hertz,
        num_slots=num_lanes * width,
        lane_width=1 if on_cpu else width,
        look_ahead=LookAhead(
            settings.watermark_first_look_ahead,
            settings.watermark_look_ahead_growth,
            settings.watermark_most_look_ahead,
        ),
        first_samples=mimi.identity.frame_sample_count,
        dtype=_DTYPES[settings.watermark_dtype],
        constant_shape=settings.constant_shape,
    )
    codec = Codec(decoder, embedder, keyring)
    codecs = (codec, *(codec.with_own_memory() for _ in range(num_codecs - 1)))
    for each in codecs:
        _warm_up(each, mimi.identity.codebook_count)
    digest = _resume_digest(mimi, bundle.path("silentcipher"), silentcipher.hparams.sdr_db)
    torch_threads = 1 if in_frames else None  # so samples do not depend on the machine's number of CPUs
    return LoadedCodec(
        codecs, mimi, silentcipher, keyring, embedder.latency_samples, bundle, torch_threads, resume_digest=digest
    )


def _resume_digest(mimi: Mimi, silentcipher: Path, sdr_db: float) -> str:
    embedding = [weights_digest(silentcipher / name) for name in ("hparams.yaml", "enc_c.ckpt", "dec_c.ckpt")]
    return " ".join((mimi.identity.weights_digest, *embedding, f"{sdr_db:g} dB"))


def _check_identity(bundle: Bundle, mimi: Mimi) -> None:
    """Raises BundleError unless the bundle describes its codec correctly."""
    if bundle.codec is None:
        return
    for field in ("name", "codebook_count", "codebook_size", "frame_sample_count", "sample_rate_hertz"):
        _check_field(bundle, field, getattr(bundle.codec, field), getattr(mimi.identity, field))
    if bundle.codec.weights_digest:
        _check_field(bundle, "weights_digest", bundle.codec.weights_digest, mimi.identity.weights_digest)


def _check_field(bundle: Bundle, field: str, said: object, found: object) -> None:
    if said != found:
        raise BundleError(f"Bundle {bundle.name} says that its codec's {field} is {said}; its weights have {found}.")


def _warm_up(codec: Codec, codebook_count: int) -> None:
    """Decodes in every slot, once at another speed, so that no later step loads or compiles anything."""
    streams = [codec.open(DecodeOptions(speed=1.0 if number else 2.0)) for number in range(codec.num_slots)]
    for stream in streams:
        codec.push(stream, np.zeros((_WARM_UP_FRAMES, codebook_count), np.int64))
        codec.finish(stream)
    while codec.has_work:
        for output in codec.step():
            if isinstance(output, Failed):
                raise output.error
