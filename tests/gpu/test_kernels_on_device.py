"""Every kernel on the device against its plain-torch twin on the CPU, at csm-1b's widths."""

from __future__ import annotations

from functools import cache
from itertools import product as combinations

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch")

from csm_engine.execution.matrix import FLOAT8, Matrix, Quantization, quantized  # noqa: E402
from csm_engine.execution.ops import dispatch as ops  # noqa: E402
from csm_engine.execution.ops import torch_ops as ops_torch  # noqa: E402
from csm_engine.execution.ops import triton_ops as ops_triton  # noqa: E402
from csm_engine.execution.ops.ahead.asks import Ahead, CachedRows  # noqa: E402
from csm_engine.execution.ops.prompt import prompt_launches  # noqa: E402
from csm_engine.execution.ops.tile_shapes import MEASURED, row_block_of  # noqa: E402
from csm_engine.execution.sampler import SamplingRows  # noqa: E402
from csm_engine.scheduling.buckets import in_tiles  # noqa: E402
from tests.gpu.device import ON_GPU, put, row_by_row, times  # noqa: E402
from tests.support.kernels.random_rope import random_rope  # noqa: E402
from tests.support.kernels.twins import assert_close, random  # noqa: E402

BF16 = torch.bfloat16
BACKBONE = {"heads": 32, "kv_heads": 8, "head_dim": 64}
DEPTH = {"heads": 8, "kv_heads": 2, "head_dim": 128}
BATCHES = (16, 20, 32, 33, 64, 128, 200, 1024) if ON_GPU else (16, 20)


@cache  # a minute of a short lease
def matrix_of(outputs: int, width: int, quantization: Quantization = "none") -> Matrix:
    """On the CPU; nobody changes it."""
    weight = random(outputs, width, seed=2) * width**-0.5
    return Matrix(weight) if quantization == "none" else quantized(weight, quantization)


@pytest.mark.parametrize("width", [1024, 2048])
def test_rms_norm(width: int) -> None:
    x, weight = random(64, width), random(width, seed=1)
    assert_close(ops_triton.rms_norm(put(x), put(weight), 1e-5), ops_torch.rms_norm(x, weight, 1e-5))


def test_silu_mul() -> None:
    gate_up = random(64, 2 * 8192)
    assert_close(ops_triton.silu_mul(put(gate_up)), ops_torch.silu_mul(gate_up))


@pytest.mark.parametrize("quantization", ["none", "float8", "int8"])
@pytest.mark.parametrize("rows", [1, 16, 33, 64, 128])
@pytest.mark.parametrize(("outputs", "width"), [(1536, 1024), (1024, 8192), (3072, 2048)])
def test_product_and_what_stands_around_it(quantization: Quantization, rows: int, outputs: int, width: int) -> None:
    x, matrix = random(rows, width), matrix_of(outputs, width, quantization)
    scale = None if matrix.scale is None else put(matrix.scale)
    on_device = Matrix(put(matrix.values), scale, fused=True)
    ours = ops_triton.product(put(x), on_device, norm=True, eps=1e-5)
    assert_close(ours, ops.norm_linear(x, None, matrix, 1e-5))
    ours = ops_triton.product(put(x), on_device, norm=True, eps=1e-5, gated=True)
    assert_close(ours, ops.norm_gated(x, None, matrix, 1e-5), 3e-2)
    residual = random(rows, outputs, seed=3)
    ours = ops_triton.product(put(x), on_device, added=put(residual))
    assert_close(ours, ops.add_linear(residual.clone(), x, matrix))


@pytest.mark.skipif(not ON_GPU, reason="Triton's interpreter does not ask memory for anything")
@pytest.mark.parametrize("rows", [1, 64])
def test_a_product_that_asks_for_what_is_read_next_gives_the_same_bits(rows: int) -> None:
    matrix, next_one = matrix_of(2048, 8192, "int8"), put(matrix_of(3072, 2048, "int8").values)
    keys, values = (torch.zeros(rows + 1, 2048, 8, 64, dtype=FLOAT8) for _ in range(2))
    cached = CachedRows(put(keys), put(values), put(torch.arange(rows)), put(torch.full((rows,), 600)))
    on_device = Matrix(put(matrix.values), None if matrix.scale is None else put(matrix.scale), fused=True)
    x, residual = put(random(rows, 8192)), random(rows, 2048, seed=3)
    alone, asking = (
        ops_triton.product(x, on_device, added=put(residual), ahead=ahead)
        for ahead in (Ahead(), Ahead(next_one, cached))
    )
    assert torch.equal(alone, asking)


@pytest.mark.parametrize("rows", [1, 16, 33, 64, 128])
@pytest.mark.parametrize("tile", MEASURED, ids=str)
@pytest.mark.parametrize("around", ["as in a frame", "with a norm"])
def test_every_measured_tile_gives_the_product(tile: tuple[int, int, bool, int], rows: int, around: str) -> None:
    """As a frame has it: added to what is there, or gated behind a norm. And, where not gated, behind a norm."""
    outputs, width, gated, weight_bytes = tile
    if gated and around == "with a norm":
        pytest.skip("a gated product has a norm in a frame, too")
    x, matrix = random(rows, width), matrix_of(outputs * (1 + gated), width, "none" if weight_bytes == 2 else "float8")
    on_device = Matrix(put(matrix.values), None if matrix.scale is None else put(matrix.scale), fused=True)
    residual = torch.zeros(rows, outputs, dtype=BF16)  # of zeros: another would hide a part of an error
    if gated:
        expected = ops.norm_gated(x, None, matrix, 1e-5)
    elif around == "with a norm":
        expected = ops.norm_linear(x, None, matrix, 1e-5)
    else:
        expected = ops.add_linear(residual.clone(), x, matrix)
    for _ in times(20):  # a race does not show every time
        if gated or around == "with a norm":
            ours = ops_triton.product(put(x), on_device, norm=True, eps=1e-5, gated=gated)
        else:
            ours = ops_triton.product(put(x), on_device, added=put(residual))
        assert_close(ours, expected, 3e-2 if gated else 2e-2)
        worst = (ours.float().cpu() - expected.float()).norm(dim=1) / expected.float().norm(dim=1)
        assert worst.max() <= 5e-2, f"row {int(worst.argmax())} is off by {worst.max():.0%}"


@pytest.mark.parametrize("quantization", ["none", "float8", "int8"])
@pytest.mark.parametrize(
    ("outputs", "width", "around"),
    [
        (1536, 1024, "norm"), (8192, 1024, "gated"), (1024, 8192, "added"), (1024, 1024, "added"),
        (8192, 2048, "gated"), (2048, 8192, "added"), (3072, 2048, "norm"), (2048, 2048, "added"), (2051, 1024, "norm"),
    ],
)  # fmt: skip
def test_bits_of_a_row_do_not_depend_on_the_batch(
    quantization: Quantization, outputs: int, width: int, around: str
) -> None:
    """At every kind of tile: 16, 32, 64 and 128 rows, whole and not, one tile and several.

    Where there is no norm, over all of them; with one, among batches of one row block: the order in which a row's
    squares are added goes with the tile.
    """
    x = put(random(BATCHES[-1], width))
    weight = matrix_of(outputs * (2 if around == "gated" else 1), width).values
    matrix = Matrix(put(weight), fused=True) if quantization == "none" else quantized(put(weight), quantization)
    residual = put(random(BATCHES[-1], outputs, seed=3))

    def of(rows: slice) -> Tensor:
        if around == "added":
            return ops_triton.product(x[rows], matrix, added=residual[rows].clone())
        return ops_triton.product(x[rows], matrix, norm=True, eps=1e-5, gated=around == "gated")

    alone = torch.cat([of(slice(row, row + 1)) for row in range(16)])
    expected = {16: alone}
    for rows in BATCHES:
        ours, block = of(slice(0, rows))[:16], 16 if around == "added" else row_block_of(rows)
        assert torch.equal(ours, expected.setdefault(block, ours)), f"{rows} rows"
        assert_close(ours, alone.cpu(), 5e-3)


@pytest.mark.parametrize("rows", [1, 16, 17, 64, 65])
@pytest.mark.parametrize(("outputs", "width"), [(1536, 1024), (1024, 8192), (3072, 2048)])
def test_whoever_is_faster_gives_the_same_products(rows: int, outputs: int, width: int) -> None:
    x, weight = random(rows, width), matrix_of(outputs, width).values
    matrix = Matrix(put(weight), fused=True, where_faster=True)
    assert_close(ops.norm_linear(put(x), None, matrix, 1e-5), ops.norm_linear(x, None, Matrix(weight), 1e-5))
    residual = random(rows, outputs, seed=3)
    ours = ops.add_linear(put(residual), put(x), matrix)
    assert_close(ours, ops.add_linear(residual.clone(), x, Matrix(weight)))


def test_a_product_in_splits_is_the_same_every_time() -> None:
    """Whoever arrives last: a thousand launches of one product give one result."""
    x, weight = put(random(16, 8192)), put(random(1024, 8192, seed=2) * 8192**-0.5)
    first = ops_triton.product(x, Matrix(weight, fused=True))
    results = [ops_triton.product(x, Matrix(weight, fused=True)) for _ in times(1000)]
    assert all(torch.equal(result, first) for result in results)


@pytest.mark.parametrize("cached", [BF16, FLOAT8], ids=["bf16", "float8"])
def test_bits_of_backbone_attention_do_not_depend_on_the_batch(cached: torch.dtype) -> None:
    heads, kv_heads, head_dim = BACKBONE.values()
    rows, length = 70, 1024
    qkv, rope = put(random(rows, (heads + 2 * kv_heads) * head_dim)), put(random_rope(length, head_dim))
    keys, values = [put(random(rows, length, kv_heads, head_dim, seed=seed).to(cached)) for seed in (1, 2)]
    slots = put(torch.arange(rows))
    positions = (slots * 131 + 7) % length
    for _ in times(20):  # the writes are the same every time
        together = ops_triton.backbone_attention(qkv, keys, values, slots, positions, rope, heads)
        for row in (0, 33, 69):
            one = slice(row, row + 1)
            alone = ops_triton.backbone_attention(qkv[one], keys, values, slots[one], positions[one], rope, heads)
            assert torch.equal(alone, together[one])


def test_bits_of_depth_attention_do_not_depend_on_the_batch() -> None:
    heads, kv_heads, head_dim = DEPTH.values()
    rope = put(random_rope(32, head_dim))
    for position in (0, 1, 8, 9, 31):
        qkv = put(random(100, (heads + 2 * kv_heads) * head_dim))
        keys, values = (put(random(100, kv_heads, 32, head_dim, seed=seed)) for seed in (1, 2))
        together = ops_triton.depth_attention(qkv, keys, values, position, rope, heads)
        for row in (0, 64, 99):
            one = slice(row, row + 1)
            alone = ops_triton.depth_attention(qkv[one], keys[one], values[one], position, rope, heads)
            assert torch.equal(alone, together[one])


@pytest.mark.parametrize("cached", [BF16, FLOAT8], ids=["bf16", "float8"])
def test_backbone_attention_at_every_kind_of_position(cached: torch.dtype) -> None:
    heads, kv_heads, head_dim = BACKBONE.values()
    length, slots = 2048, torch.tensor([3, 0, 6, 1, 5, 2])
    positions = torch.tensor([0, 63, 64, 256, 1023, 2047])
    qkv, rope = random(6, (heads + 2 * kv_heads) * head_dim), random_rope(length, head_dim)
    caches = [random(7, length, kv_heads, head_dim, seed=seed).to(cached) for seed in (1, 2)]
    expected = [cache.clone() for cache in caches]
    ours = [put(cache) for cache in caches]
    ours_keys, ours_values = ours
    keys, values = expected
    attended = ops_triton.backbone_attention(
        put(qkv), ours_keys, ours_values, put(slots), put(positions), put(rope), heads
    )
    assert_close(attended, ops_torch.backbone_attention(qkv, keys, values, slots, positions, rope, heads))
    for one, other in zip(ours, expected, strict=True):
        assert_close(one, other)


PROMPTS = {3: (0, 40), 0: (1000, 256), 5: (63, 1), 1: (2047, 1), 6: (0, 300)}  # slot -> first position, rows
if not ON_GPU:
    PROMPTS = {3: (0, 40), 0: (1000, 65), 5: (63, 1)}  # the interpreter takes minutes for the others


def pass_of(prompts: dict[int, tuple[int, int]], pad_slot: int) -> tuple[Tensor, Tensor, Tensor]:
    """slots and positions of a prefill pass, each prompt in whole tiles, and which rows are real."""
    slots, positions, real = [], [], []
    for slot, (first, rows) in prompts.items():
        padding = in_tiles(rows) - rows
        slots += [slot] * rows + [pad_slot] * padding
        positions += [*range(first, first + rows), *([0] * padding)]
        real += [True] * rows + [False] * padding
    return torch.tensor(slots), torch.tensor(positions), torch.tensor(real)


@pytest.mark.parametrize("cached", [BF16, FLOAT8, torch.float32], ids=["bf16", "float8", "float32"])
def test_prompts_of_one_pass_are_written_and_attend_each_to_its_own_slot(cached: torch.dtype) -> None:
    heads, kv_heads, head_dim = BACKBONE.values()
    slots, positions, real = pass_of(PROMPTS, 7)
    dtype = cached if cached is torch.float32 else BF16
    qkv = random(len(slots), (heads + 2 * kv_heads) * head_dim, dtype=dtype)
    rope = random_rope(2048, head_dim)
    expected = [random(8, 2048, kv_heads, head_dim, seed=seed).to(cached) for seed in (1, 2)]
    ours = [put(cache) for cache in expected]
    on_device, ours_keys, ours_values = put(qkv), ours[0], ours[1]
    where, turns = (put(slots), put(positions)), put(rope)
    prompt_launches.write_rows(on_device, ours_keys, ours_values, where[0], where[1], turns, heads)
    ops_torch.write_rows(qkv, expected[0], expected[1], slots, positions, rope, heads)
    for one, other in zip(ours, expected, strict=True):
        assert_close(one[:7], other[:7])
    twin = ops_torch.prompt_attention(qkv, expected[0], expected[1], slots, positions, rope, heads)[real]
    first = prompt_launches.prompt_attention(on_device, ours_keys, ours_values, where[0], where[1], turns, heads)
    for _ in times(20):  # a race does not show every time
        attended = prompt_launches.prompt_attention(on_device, ours_keys, ours_values, where[0], where[1], turns, heads)
        assert torch.equal(attended, first)
    assert_close(first.cpu()[real], twin)
    worst = (first.cpu()[real].float() - twin.float()).norm(dim=1) / twin.float().norm(dim=1)
    assert worst.max() <= 5e-2, f"row {int(worst.argmax())} is off by {worst.max():.0%}"


@pytest.mark.parametrize("cached", [BF16, FLOAT8], ids=["bf16", "float8"])
def test_bits_of_a_prompt_s_rows_depend_on_their_positions_alone(
    cached: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    row_by_row(monkeypatch)
    heads, kv_heads, head_dim = BACKBONE.values()
    slots, positions, real = (put(part) for part in pass_of(PROMPTS, 7))
    qkv, rope = put(random(len(slots), (heads + 2 * kv_heads) * head_dim)), put(random_rope(2048, head_dim))
    keys, values = [put(random(8, 2048, kv_heads, head_dim, seed=seed).to(cached)) for seed in (1, 2)]
    together = prompt_launches.prompt_attention(qkv, keys, values, slots, positions, rope, heads)
    for slot, (_, rows) in PROMPTS.items():
        here = (slots == slot).nonzero()[:, 0]
        for skipped in {0, rows // 3}:  # another place in its tile
            own = here[skipped:]
            alone = prompt_launches.prompt_attention(qkv[own], keys, values, slots[own], positions[own], rope, heads)
            assert torch.equal(alone, together[own])


def test_embeddings_of_a_pass() -> None:
    ids = torch.randint(-1, 2051, (33, 300), generator=torch.Generator().manual_seed(3))
    audio, text = random(32 * 2051, 2048), random(4000, 2048, seed=1)
    ours = prompt_launches.embed(put(ids), put(audio), put(text), 2051)
    assert_close(ours, ops_torch.embed(ids, audio, text, 2051))


@pytest.mark.parametrize("rows", [1, 64])
def test_depth_attention_through_a_whole_frame(rows: int) -> None:
    heads, kv_heads, head_dim = DEPTH.values()
    length = 32
    rope = random_rope(length, head_dim)
    expected = [torch.zeros(rows, kv_heads, length, head_dim, dtype=BF16) for _ in range(2)]
    ours_keys, ours_values = (put(torch.full_like(cache, torch.nan)) for cache in expected)
    keys, values = expected
    for position in range(length):
        qkv = random(rows, (heads + 2 * kv_heads) * head_dim, seed=position)
        attended = ops_triton.depth_attention(put(qkv), ours_keys, ours_values, position, put(rope), heads)
        assert_close(attended, ops_torch.depth_attention(qkv, keys, values, position, rope, heads))


@pytest.mark.parametrize(("dtype", "codebook"), list(combinations([torch.float32, BF16], [0, 31])))
def test_sampler_draws_the_same_codes(dtype: torch.dtype, codebook: int) -> None:
    rows, vocab_size, codebook_size, width = 64, 2051, 2048, 1024
    logits = (random(rows, vocab_size, dtype=torch.float32) * 3).to(dtype)
    seed, frame = torch.arange(rows) * 2**33 + 5, torch.arange(rows) * 7
    temperature = torch.linspace(0, 1.5, rows)
    top_k = torch.arange(rows) + 1
    table = random(32 * vocab_size, width)
    sampling = SamplingRows(temperature, top_k, seed)
    on_device = SamplingRows(put(temperature), put(top_k), put(seed))
    codes, fed = ops_triton.sample_and_feed(
        put(logits), on_device, put(torch.arange(rows)), put(frame), codebook, codebook_size, vocab_size, put(table)
    )  # fmt: skip
    twin = ops_torch.FrameDraw(sampling, frame, codebook + 1, codebook_size)
    expected = twin.sample(logits, codebook)
    assert torch.equal(codes.cpu(), expected)
    assert fed is not None and torch.equal(fed.cpu(), table[codebook * vocab_size + expected])
