"""Loads what the engine stage serves: bundle, model, tokenizer, engine. Slow and blocking: for a thread."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from csm_bundle.bundle import Bundle, open_bundle
from csm_bundle.codec_identity import MIMI, CodecIdentity
from csm_bundle.errors import BundleError, EngineFaultError
from csm_bundle.runtime.device import check_device
from csm_bundle.voice_folder import FolderVoice, read_voices
from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.graph_runner import GraphRunner
from csm_engine.execution.matrix import FLOAT8
from csm_engine.execution.weights import pack
from csm_engine.kv.cache import cache_bytes
from csm_engine.loop.engine import Engine
from csm_engine.model.csm import CSM
from csm_engine.model.loader import load_model, random_model
from csm_engine.model.shapes import ModelConfig
from csm_engine.model.tokenizer import TextTokenizer
from csm_engine.types import FinishReason, GenerationRequest, Segment
from services.common.process.cpus import choose_threads
from services.common.process.memory import memory_bytes
from services.engine.settings import EngineSettings
from services.engine.spoken_text import SpokenText

log = logging.getLogger("csm.engine")

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_WARM_UP_FRAMES = 3
_RANDOM_WEIGHTS_SEED = 0
# Properties of Mimi that a model's config lacks, for bundles that name no codec.
_MIMI_FRAME_SAMPLES = 1920
_MIMI_SAMPLE_RATE = 24_000


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """A warm engine and its description."""

    engine: Engine
    bundle: Bundle
    model_config: ModelConfig
    codec: CodecIdentity
    weights_digest: str
    notice: str
    spoken_text: SpokenText
    prompted_voices: list[FolderVoice]


def load_engine(
    settings: EngineSettings, on_lexicon_reload: Callable[[bool], None] = lambda usable: None
) -> LoadedEngine:
    """on_lexicon_reload: see FollowedFiles

    Raises: BundleError, CheckpointError, LexiconFileError, DeviceError, EngineFaultError."""
    check_device(settings.device)
    torch.set_num_threads(choose_threads(settings.threads, torch.get_num_threads()))
    bundle = open_bundle(
        settings.bundle, revision=settings.revision, offline=settings.offline, cache_dir=settings.cache_dir
    )
    spoken_text = SpokenText(bundle, settings.lexicon, on_lexicon_reload)
    model = _load_model(bundle, settings)
    tokenizer = TextTokenizer(bundle.path("tokenizer"), model.config.text_vocab_size)
    if settings.fused_products:
        log.warning(
            "fused products are on: they are experimental and gave wrong results on an H100, so do not serve them"
        )
    if settings.depth_kernel:
        log.warning("the depth kernel is on: it is experimental and has not run on a GPU, so do not serve with it")
    weights = pack(
        model,
        quantization=settings.quantization,
        fused=settings.fused_products,
        rows=settings.slots,
        depth_kernel=settings.depth_kernel,
    )
    kv_dtype = FLOAT8 if settings.kv_cache_dtype == "float8" else weights.dtype
    needed = cache_bytes(model.config.backbone, settings.total_slots, kv_dtype)
    if settings.device == "cpu" and needed > (present := memory_bytes()):
        said = (
            "%d --slots and %d --spare-slots may take %.1f GiB for keys and values; this machine has %.1f GiB of memory"
        )
        log.warning(said, settings.slots, settings.spare_slots, needed / 2**30, present / 2**30)
    packed = PackedFrameStep(weights, settings.total_slots, kv_dtype=kv_dtype)
    step = GraphRunner(
        packed, settings.slots, prefill_rows=settings.prefill_chunk, constant_shape=settings.constant_shape
    )
    engine = Engine(step, tokenizer, settings)
    _warm_up(engine, spoken_text)
    notice = bundle.notice
    if settings.random_weights:
        notice = "The weights are random (--random-weights): everything sounds like noise."
    codec = _codec(bundle, model.config)
    digest = _digest(model, settings, bundle.text_frontend, compiled=weights.on_cpu is not None)
    return LoadedEngine(
        engine, bundle, model.config, codec, digest, notice, spoken_text, _prompted_voices(bundle, codec)
    )  # `model` is freed here, and its unpacked weights with it


def _prompted_voices(bundle: Bundle, codec: CodecIdentity) -> list[FolderVoice]:
    """The voices of the bundle's part "voices", which all callers may use. The callers that a voice names are ignored.

    Raises BundleError, also for codes of another codec and for a name used twice.
    """
    voices = read_voices(bundle.path("voices")) if "voices" in bundle.parts else []
    named = {voice.name for voice in bundle.voices}
    for voice in voices:
        if voice.name in named:
            raise BundleError(f"Bundle {bundle.name} has two voices named {voice.name}.")
        if voice.codec is not None and voice.codec != codec:
            raise BundleError(f"Bundle {bundle.name}: the codes of voice {voice.name} belong to another codec.")
    return voices


def _load_model(bundle: Bundle, settings: EngineSettings) -> CSM:
    path = bundle.path("model")
    log.info("loading %s from %s on %s", bundle.name, path, settings.device)
    device, dtype = torch.device(settings.device), _DTYPES[settings.dtype]
    if settings.random_weights:
        log.warning("weights are RANDOM, as asked: the speech will be noise")
        folder = path if path.is_dir() else path.parent
        config = ModelConfig.from_json(folder / "config.json")
        return random_model(config, seed=_RANDOM_WEIGHTS_SEED, device=device, dtype=dtype)
    return load_model(path, device=device, dtype=dtype)


def _warm_up(engine: Engine, spoken_text: SpokenText) -> None:
    text = spoken_text.read(0, "warm up")
    sequence = engine.add_request(GenerationRequest("warm-up", [Segment(0, text)], _WARM_UP_FRAMES))
    while engine.has_work:
        engine.step()
    if sequence.finish_reason is FinishReason.INVALID_FRAME:
        raise EngineFaultError("The engine computed an invalid frame in its warm-up: the device or a kernel is broken.")
    engine.reset_timings()


def _codec(bundle: Bundle, config: ModelConfig) -> CodecIdentity:
    """The codec that the bundle names, or Mimi with the model's own numbers."""
    of_model = (config.num_codebooks, config.codebook_size)
    if bundle.codec is None:
        return CodecIdentity(MIMI, "", *of_model, _MIMI_FRAME_SAMPLES, _MIMI_SAMPLE_RATE)
    of_codec = (bundle.codec.codebook_count, bundle.codec.codebook_size)
    if of_codec != of_model:
        raise BundleError(
            f"Bundle {bundle.name} names a codec of {of_codec[0]} codebooks of {of_codec[1]};"
            f" its model makes {of_model[0]} of {of_model[1]}."
        )
    return bundle.codec


def _digest(model: CSM, settings: EngineSettings, text_frontend: str, *, compiled: bool) -> str:
    """A cheap digest to compare replicas: 16 hex digits of every parameter's name, shape and 64 of its values, of the
    settings that change the rounding, and of the text front end. compiled: whether a CPU's compiled kernels run.
    """
    digest = hashlib.sha256()
    roundings = (
        (settings.dtype, "float32"),
        (settings.quantization, "none"),
        (settings.kv_cache_dtype, "auto"),
        ("fused products" if settings.fused_products else "products", "products"),  # round norms' weights into matrices
        ("depth kernel" if settings.depth_kernel else "phases", "phases"),
        ("compiled" if compiled else "torch", "torch"),
    )
    for rounding, unset in roundings:
        digest.update(b"" if rounding == unset else f"{rounding}/{unset}".encode())
    digest.update(text_frontend.encode())
    for name, parameter in model.named_parameters():
        flat = parameter.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 64)][:64].float().cpu().numpy()
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(sample.tobytes())
    return digest.hexdigest()[:16]
