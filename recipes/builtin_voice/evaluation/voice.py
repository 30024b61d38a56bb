"""A bundle's voice without servers: the engine makes codes, and the codec's networks sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from csm_bundle.bundle import open_bundle
from csm_codec.mimi.encoder import encode
from csm_codec.mimi.loader import Mimi, load_mimi
from csm_codec.resample import Pcm
from csm_codec.watermark.networks.silentcipher import load_silentcipher
from csm_engine.config import EngineConfig
from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.weights import PackedWeights, pack
from csm_engine.loop.engine import Engine
from csm_engine.model.csm import CSM
from csm_engine.model.loader import load_model
from csm_engine.model.tokenizer import TextTokenizer
from csm_engine.scheduling.sequence import Sequence as EngineSequence
from csm_engine.types import Codes, FinishReason, GenerationRequest, SamplingParams, Segment
from csm_text.frontend import load

BATCH = 16
MAX_FRAMES = 150  # 12 s, more than twice the longest sentence of the domain


@dataclass(frozen=True, slots=True)
class Saying:
    """One utterance. pcm: at the voice's sample rate, without watermark."""

    pcm: Pcm
    codes: Codes
    ended: bool  # whether the model ended it
    context_rows: int  # positions of the prompt before the spoken text


class Voice:
    """Speaks many texts in batches."""

    def __init__(
        self,
        folder: Path,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        packed: Callable[[CSM], PackedWeights] = pack,
    ) -> None:
        """temperature, top_k: None is what the bundle recommends. packed: packs the model's weights."""
        bundle = open_bundle(str(folder))
        model = load_model(bundle.path("model"))
        config = EngineConfig(slots=BATCH, spare_slots=0, max_waiting=100_000)
        tokenizer = TextTokenizer(bundle.path("tokenizer"), model.config.text_vocab_size)
        self._engine = Engine(PackedFrameStep(packed(model), config.total_slots), tokenizer, config)
        self._mimi: Mimi = load_mimi(bundle.path("mimi"))
        recommended, defaults = bundle.sampling, SamplingParams()
        wanted = (temperature, recommended.temperature, defaults.temperature)
        self.temperature = next(value for value in wanted if value is not None)
        self.top_k = top_k or recommended.top_k or defaults.top_k
        self._front_end = load(bundle.text_frontend) if bundle.text_frontend else None
        self.codec_digest = self._mimi.identity.weights_digest
        self.sample_rate_hz = self._mimi.identity.sample_rate_hertz
        self.silentcipher = load_silentcipher(bundle.path("silentcipher"))
        if bundle.message_sdr_db is not None:
            hparams = replace(self.silentcipher.hparams, sdr_db=bundle.message_sdr_db)
            self.silentcipher = replace(self.silentcipher, hparams=hparams)
        self.conditions: dict[str, object] = {
            "voice": f"{bundle.name}/{bundle.version}",
            "sampling": {"temperature": self.temperature, "top_k": self.top_k},
        }

    def say(self, requests: Sequence[Sequence[Segment]], *, first_seed: int = 0) -> list[Saying]:
        """Speaks the last segment of each request; the others are its context. Request i has seed first_seed + i."""
        sequences = [
            self._engine.add_request(
                GenerationRequest(
                    str(index),
                    [self._spoken(segment) for segment in segments],
                    MAX_FRAMES,
                    SamplingParams(self.temperature, self.top_k, first_seed + index),
                )
            )
            for index, segments in enumerate(requests)
        ]
        while self._engine.has_work:
            self._engine.step()
        return [self._saying(sequence) for sequence in sequences]

    def _spoken(self, segment: Segment) -> Segment:
        """The segment with its text as the model reads it."""
        return replace(segment, text=self._front_end.utterance(segment.text)) if self._front_end else segment

    @torch.inference_mode()
    def decode(self, codes: Codes) -> Pcm:
        """(frames, codebooks) to samples."""
        ids = torch.from_numpy(codes.astype(np.int64).T[None])
        return self._mimi.model.decode(ids)[0, 0].numpy()

    def encode(self, pcm: Pcm, sample_rate_hz: int) -> Codes:
        return encode(self._mimi, pcm, sample_rate_hz).astype(np.int16)

    def _saying(self, sequence: EngineSequence) -> Saying:
        codes = (
            np.stack(sequence.frames) if sequence.frames else np.zeros((0, self._mimi.model.num_codebooks), np.int16)
        )
        ended = sequence.finish_reason is FinishReason.END_OF_SPEECH
        pcm = self.decode(codes) if len(codes) else np.zeros(0, np.float32)
        prompt = sequence.prompt
        return Saying(pcm, codes, ended, len(prompt) - prompt.text_token_count)
