"""The checkpoints of a text: what one gateway tells of the sentences that it has said, and another one goes on from.

They are sealed with the keys of codes, since codes are a part. Each names the one before by a digest and the request by
another, so only all checkpoints of one call, in order and with its request, are taken.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from csm.gateway.v1 import said_sentence_pb2
from google.protobuf.message import DecodeError

from services.common.rpc.status import StatusError, wrong_field
from services.gateway.audio.encodings import can_go_on
from services.gateway.audio.resampling.continuation import Place
from services.gateway.auth.code_sealing import STATE_MAGIC, CodeSeal, SealError
from services.gateway.stages.catalog import Catalog
from services.gateway.synthesis.clip import Clip
from services.gateway.synthesis.plan import SynthesisPlan
from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.texts.said import Said

_FIELD = "config.stream_config.checkpoints"


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier call of the text has said, as its checkpoints tell."""

    said: tuple[Said, ...] = ()
    place: Place | None = None  # behind the last sentence, where the stream goes on; None: it has everything again

    def clip(self) -> Clip:
        """The clip as it is where the stream begins. It keeps its key, also when another one has become active."""
        key_id = self.said[-1].result.watermark.key_id if self.said else ""
        return Clip(self.said[-1].clip_state if self.place is not None else b"", continues=True, key_id=key_id)


class Checkpoints:
    """Opens the checkpoints of a request and makes those that follow them."""

    def __init__(self, seal: CodeSeal, plan: SynthesisPlan, catalog: Catalog, max_remembered: int) -> None:
        """max_remembered: earlier sentences in the context of one"""
        self._seal = seal
        self._request = _digest_of(plan, catalog, max_remembered)
        self._goes_on = can_go_on(plan.encoding, catalog.sample_rate_hz, plan.sample_rate_hz)
        self._last = b""  # digest of the newest checkpoint

    def open(self, sealed: Sequence[bytes]) -> Earlier:
        """Nothing said if this gateway lacks the key or their version is another one: then the text begins anew.

        Raises StatusError INVALID_ARGUMENT for checkpoints that were changed or do not belong here.
        """
        states = []
        for index, each in enumerate(sealed):
            state = self._opened(index, each)
            if state is None:
                self._last = b""
                return Earlier()
            states.append(state)
        place = None
        if states and self._goes_on:
            last = states[-1]
            place = Place(last.decoded_sample_count, last.sent_sample_count, last.last_samples)
        return Earlier(tuple(map(_said, states)), place)

    def make(self, said: Said, place: Place) -> bytes:
        """The checkpoint of the sentence that was said last. place: behind it"""
        result = said.result
        state = said_sentence_pb2.SaidSentence(
            request_digest=self._request,
            previous_digest=self._last,
            text=said.text,
            codes=result.codes,
            started=result.started,
            complete=result.complete,
            watermark=result.watermark,
            clip_state=said.clip_state,
            decoded_sample_count=place.decoded_samples,
            sent_sample_count=place.sent_samples,
            last_samples=place.last_samples,
        )
        sealed = self._seal.seal_state(state.SerializeToString())
        self._last = hashlib.sha256(sealed).digest()
        return sealed

    def _opened(self, index: int, sealed: bytes) -> said_sentence_pb2.SaidSentence | None:
        """None if this gateway cannot know what is in it."""
        if sealed[:4] == STATE_MAGIC[:4] and sealed[4:5] != STATE_MAGIC[4:]:
            return None
        try:
            state = said_sentence_pb2.SaidSentence.FromString(self._seal.open_state(sealed))
        except (SealError, DecodeError) as error:
            if isinstance(error, SealError) and error.reason == "SEALED_CODES_UNKNOWN_KEY":
                return None
            raise _wrong(index, "is not as a server sent it: bytes were changed.", "CHECKPOINT_CHANGED") from None
        if state.request_digest != self._request:
            why = "belongs to another request, or to a server with another model, codec or settings."
            raise _wrong(index, why, "CHECKPOINT_OTHER_REQUEST")
        if state.previous_digest != self._last:
            why = "does not follow the one before: send all checkpoints of the call, in order."
            raise _wrong(index, why, "CHECKPOINT_OUT_OF_ORDER")
        self._last = hashlib.sha256(sealed).digest()
        return state


def _said(state: said_sentence_pb2.SaidSentence) -> Said:
    result = SynthesisResult(state.complete, state.started, state.watermark, state.codes, 0.0, 0.0, 0.0)
    return Said(state.text, result, state.clip_state)


def _digest_of(plan: SynthesisPlan, catalog: Catalog, max_remembered: int) -> bytes:
    """Of all that decides the audio, beside the words. Not of codes made of recordings: another processor's may differ
    in the last bits, and the text goes on with those of its own. A change here needs another version of the state.
    """
    decides = [
        plan.speaker,
        plan.voice,
        "" if plan.prompt is None else plan.prompt.text,
        plan.language_code,
        asdict(plan.sampling),
        plan.max_frames,
        plan.encoding,
        plan.sample_rate_hz,
        plan.speed,
        plan.context_digest.hex(),
        max_remembered,
        catalog.model.weights_digest,
        [str(getattr(catalog.identity, field.name)) for field in catalog.identity.DESCRIPTOR.fields],
    ]
    return hashlib.sha256(json.dumps(decides).encode()).digest()


def _wrong(index: int, description: str, reason: str) -> StatusError:
    return wrong_field(f"{_FIELD}[{index}]", description, reason)
