"""Our model against an independent implementation: transformers' CsmForConditionalGeneration with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from csm_engine.config import EngineConfig
from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.weights import pack
from csm_engine.loop.engine import Engine
from csm_engine.model.csm import CSM
from csm_engine.model.loader import load_model
from csm_engine.model.prompt import Prompt, PromptBuilder
from csm_engine.model.shapes import ModelConfig, TransformerConfig
from csm_engine.model.tokenizer import TextTokenizer
from csm_engine.reference.frame_step import ReferenceFrameStep
from csm_engine.types import GenerationRequest, SamplingParams, Segment
from tests.support.cost.absent import UNUSED_BY_TRANSFORMERS, absent
from tests.support.tiny.csm import permute_rotary, transformers_config, write_original, write_transformers
from tests.support.tiny.tokenizer import byte_tokenizer

if TYPE_CHECKING:
    from transformers import CsmForConditionalGeneration

SEED = 11
# The audio vocabulary has no spare ids here: transformers would draw them, our sampler never does.
CONFIG = ModelConfig(
    backbone=TransformerConfig(num_layers=3, dim=64, num_heads=8, num_kv_heads=2, ffn_dim=96, max_seq_len=256),
    depth_decoder=TransformerConfig(num_layers=2, dim=32, num_heads=4, num_kv_heads=2, ffn_dim=48, max_seq_len=33),
    text_vocab_size=320,
    audio_vocab_size=128,
    num_codebooks=32,
    codebook_size=128,
)
MIMI = {  # transformers builds a codec, which is not used
    "model_type": "mimi", "num_filters": 4, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 16, "codebook_size": 8, "codebook_dim": 8,
    "vector_quantization_hidden_dimension": 8, "upsample_groups": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transformers")
    write_transformers(folder, CONFIG, seed=SEED)
    return folder


@pytest.fixture(scope="module")
def oracle(checkpoint: Path) -> CsmForConditionalGeneration:
    with absent(*UNUSED_BY_TRANSFORMERS):
        from transformers import CsmConfig, CsmForConditionalGeneration  # takes seconds

    values = transformers_config(CONFIG) | {"codec_config": MIMI, "pad_token_id": 0, "codebook_pad_token_id": 0}
    values.pop("audio_codebook_size")
    model = CsmForConditionalGeneration(CsmConfig(**values)).eval()
    state: dict[str, Tensor] = {}
    for shard in checkpoint.glob("*.safetensors"):
        state |= load_file(shard)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(key.startswith("codec_model.") for key in missing)
    return model


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"), CONFIG.text_vocab_size)


def segments() -> list[Segment]:
    """Two turns with audio, then the text to speak."""
    codes = np.random.default_rng(5).integers(0, CONFIG.codebook_size, (9, CONFIG.num_codebooks), dtype=np.int16)
    return [
        Segment(0, "Where have you been?", codes[:5]),
        Segment(1, "On the other side.", codes[5:]),
        Segment(0, "Tell me."),
    ]


def prompt_of(tokenizer: TextTokenizer) -> Prompt:
    builder = PromptBuilder(
        tokenizer,
        num_codebooks=CONFIG.num_codebooks,
        codebook_size=CONFIG.codebook_size,
        max_seq_len=CONFIG.max_seq_len,
        reserved_frames=50,
    )
    return builder.build(segments(), max_frames=50)


def oracle_embeddings(oracle: CsmForConditionalGeneration, prompt: Prompt) -> Tensor:
    """The prompt through the oracle's own embedding tables: (1, T, D)."""
    tokens = torch.from_numpy(prompt.rows).clamp(min=0)
    is_text = torch.from_numpy(prompt.rows[:, -1] >= 0)
    audio = oracle.backbone_model.embed_tokens(tokens[None, :, :-1])[0]
    text = oracle.embed_text_tokens(tokens[:, -1])
    return torch.where(is_text[:, None], text, audio).unsqueeze(0)


def close(ours: Tensor, theirs: Tensor) -> bool:
    """fp32: within 1e-4 of the logits' scale."""
    return bool((ours - theirs).abs().max() <= 1e-4 * theirs.abs().max())


def load_layout(layout: str, checkpoint: Path, tmp_path: Path) -> CSM:
    if layout == "transformers":
        return load_model(checkpoint)
    write_original(tmp_path, CONFIG, seed=SEED, pickle=layout == "original pickle")
    return load_model(tmp_path)


LAYOUTS = ["original", "original pickle", "transformers"]


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.inference_mode()
def test_teacher_forced_logits_agree(
    layout: str, checkpoint: Path, oracle: CsmForConditionalGeneration, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    model = load_layout(layout, checkpoint, tmp_path)
    prompt = prompt_of(tokenizer)
    stages = ReferenceFrameStep(model, num_slots=2)
    embeddings = model.embed_rows(torch.from_numpy(prompt.rows))
    theirs = oracle.backbone_model(inputs_embeds=oracle_embeddings(oracle, prompt)).last_hidden_state[0]
    ours = stages.backbone.prefill(embeddings, slot=1, start=0)
    assert close(stages.backbone.codebook0_logits(ours), oracle.lm_head(theirs))

    frames = torch.randint(
        0, CONFIG.codebook_size, (4, CONFIG.num_codebooks), generator=torch.Generator().manual_seed(1)
    )
    hidden = theirs[-4:]
    their_depth = oracle.depth_decoder(
        input_ids=torch.nn.functional.pad(frames[:, :-1], (1, 0)), backbone_last_hidden_state=hidden.clone()
    ).logits
    assert close(stages.depth_decoder.logits(hidden, frames), their_depth)


@torch.inference_mode()
def oracle_greedy(oracle: CsmForConditionalGeneration, prompt: Prompt, num_frames: int) -> np.ndarray:
    """Greedy frames by the oracle's own modules and caches."""
    output = oracle.backbone_model(inputs_embeds=oracle_embeddings(oracle, prompt), use_cache=True)
    frames = []
    for _ in range(num_frames):
        hidden = output.last_hidden_state[:, -1]
        code0 = oracle.lm_head(hidden).argmax(-1)
        codes = oracle.depth_decoder.generate(
            torch.nn.functional.pad(code0[:, None], (1, 0)),
            attention_mask=torch.ones(1, 2, dtype=torch.int64),  # the placeholder 0 is no padding
            backbone_last_hidden_state=hidden.clone(),
            do_sample=False,
            max_new_tokens=CONFIG.num_codebooks - 1,
            min_new_tokens=CONFIG.num_codebooks - 1,
            pad_token_id=0,
        )[:, 1:]
        frames.append(codes[0].numpy())
        output = oracle.backbone_model(
            input_ids=codes.unsqueeze(1), past_key_values=output.past_key_values, use_cache=True
        )
    return np.stack(frames)


@pytest.fixture(scope="module", params=[10, pytest.param(50, marks=pytest.mark.slow)], ids=["ten", "fifty"])
def expected_frames(
    request: pytest.FixtureRequest, oracle: CsmForConditionalGeneration, tokenizer: TextTokenizer
) -> np.ndarray:
    """From the second frame on, a frame has the codes of the one before."""
    return oracle_greedy(oracle, prompt_of(tokenizer), request.param)


@pytest.mark.parametrize(
    ("layout", "step"),
    [
        *((layout, "packed") for layout in LAYOUTS),
        *(
            pytest.param(layout, "reference", marks=pytest.mark.slow if layout != "original" else ())
            for layout in LAYOUTS
        ),
    ],
)
def test_greedy_frames_are_identical(
    layout: str, step: str, checkpoint: Path, expected_frames: np.ndarray, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    model = load_layout(layout, checkpoint, tmp_path)
    config = EngineConfig(slots=2, prefill_chunk=7)
    slots = config.total_slots
    frame_step = PackedFrameStep(pack(model), slots) if step == "packed" else ReferenceFrameStep(model, slots)
    engine = Engine(frame_step, tokenizer, config)
    request = GenerationRequest("greedy", segments(), len(expected_frames), SamplingParams(temperature=0.0, top_k=1))
    engine.add_request(request)
    frames = []
    while engine.has_work:
        frames += [output.frame for output in engine.step() if output.frame is not None]
    np.testing.assert_array_equal(np.stack(frames), expected_frames)


@torch.inference_mode()
def test_wrong_rotary_order_would_be_noticed(
    checkpoint: Path, oracle: CsmForConditionalGeneration, tokenizer: TextTokenizer
) -> None:
    """The parity depends on the order of the rows of q: in the file's own order the logits differ."""
    model = load_model(checkpoint)
    for layer in model.backbone.layers:
        layer.attn.q_proj.weight.copy_(permute_rotary(layer.attn.q_proj.weight, CONFIG.backbone.num_heads))
    prompt = prompt_of(tokenizer)
    stages = ReferenceFrameStep(model, num_slots=1)
    embeddings = model.embed_rows(torch.from_numpy(prompt.rows))
    theirs = oracle.backbone_model(inputs_embeds=oracle_embeddings(oracle, prompt)).last_hidden_state[0]
    ours = stages.backbone.prefill(embeddings, slot=0, start=0)
    assert not close(stages.backbone.codebook0_logits(ours), oracle.lm_head(theirs))
