"""Sums of products on a CPU that stay in vector registers, as parts of kernels of numba, which keeps no array in them.

Every sum has one order, whatever is computed beside it. Arrays are float32 in C order. "at" is the index of a first
number in the whole array, "step" the distance to the next row. Nothing checks bounds, except with NUMBA_BOUNDSCHECK=1,
as in all kernels of numba.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from csm_bundle.runtime.panels import LANES

_FUSED = ("contract",)  # a product and a sum are rounded once, where the processor can


def weighted_sums(num_rows: int, num_vectors: int, *, lanes: int = LANES, adds: bool = False):
    """Makes tile(x, x_at, x_step, weight, at, step, count, y, y_at, y_step): y = x @ weight, for num_rows rows of x and
    lanes * num_vectors columns of `count` rows of weight. A sum goes over the rows of weight in their order, so lanes
    leave its bits alone. adds: it goes on from y, so a product in parts has the bits of the whole.
    """

    @intrinsic
    def tile(typing_context, x, x_at, x_step, weight, at, step, count, y, y_at, y_step):
        def generate(context, builder, signature, arguments):
            x, x_at, x_step, weight, at, step, count, y, y_at, y_step = arguments
            x, weight, y = (_Numbers.of(context, builder, signature, arguments, index) for index in (0, 3, 7))
            sums = [[_variable(builder, lanes) for _ in range(num_vectors)] for _ in range(num_rows)]
            into = [
                [builder.add(_step(builder, y_at, y_step, row), _number(lanes * v)) for v in range(num_vectors)]
                for row in range(num_rows)
            ]
            if adds:
                for of_row, indices in zip(sums, into, strict=True):
                    for total, index in zip(of_row, indices, strict=True):
                        builder.store(_load(builder, y, index, lanes), total)
            begins = [_step(builder, x_at, x_step, row) for row in range(num_rows)]
            with cgutils.for_range(builder, count) as loop:
                row = builder.add(at, builder.mul(loop.index, step))
                parts = [
                    _load(builder, weight, builder.add(row, _number(lanes * v)), lanes) for v in range(num_vectors)
                ]
                for begin, of_row in zip(begins, sums, strict=True):
                    factor = builder.load(x.pointer(builder, builder.add(begin, loop.index)))
                    _add_products(builder, of_row, [_filled_with(builder, factor, lanes)] * num_vectors, parts)
            for of_row, indices in zip(sums, into, strict=True):
                for total, index in zip(of_row, indices, strict=True):
                    _store(builder, builder.load(total), y, index)
            return context.get_dummy_value()

        numbers = (types.int64,) * 2
        return types.void(x, *numbers, weight, *numbers, types.int64, y, *numbers), generate

    return tile


def eight_dots(num_rows: int):
    """Makes dots(x, x_at, x_step, weight, at, step, count, y, y_at, y_step), for one or two rows of x. It writes to y
    the products of `count` numbers of a row, a multiple of eight, with each of eight rows of weight. Two rows share
    wide vectors; each sum has the same order as for one.
    """
    lanes = LANES * num_rows

    @intrinsic
    def dots(typing_context, x, x_at, x_step, weight, at, step, count, y, y_at, y_step):
        def generate(context, builder, signature, arguments):
            x, x_at, x_step, weight, at, step, count, y, y_at, y_step = arguments
            x, weight, y = (_Numbers.of(context, builder, signature, arguments, index) for index in (0, 3, 7))
            sums = [_variable(builder, lanes) for _ in range(LANES)]
            with cgutils.for_range(builder, builder.udiv(count, _number(LANES))) as loop:
                along = builder.mul(loop.index, _number(LANES))
                rows = [builder.add(_step(builder, x_at, x_step, row), along) for row in range(num_rows)]
                factors = _joined(builder, [_load(builder, x, row) for row in rows])
                begin = builder.add(at, along)
                parts = [_load(builder, weight, _step(builder, begin, step, row)) for row in range(LANES)]
                parts = [_joined(builder, [part] * num_rows) for part in parts]
                _add_products(builder, sums, [factors] * LANES, parts)
            totals = _sums_of_each(builder, [builder.load(total) for total in sums])
            for row in range(num_rows):
                of_row = _chosen(builder, totals, totals, [LANES * row + n for n in range(LANES)])
                _store(builder, of_row, y, _step(builder, y_at, y_step, row))
            return context.get_dummy_value()

        numbers = (types.int64,) * 2
        return types.void(x, *numbers, weight, *numbers, types.int64, y, *numbers), generate

    return dots


def _reduction(start: float, combine: Callable[..., Any]) -> Callable[..., Any]:
    """Makes reduce(x, at, count), of `count` numbers, a multiple of eight: eight lanes that are combined at the end."""

    @intrinsic
    def reduce(typing_context, x, at, count):
        def generate(context, builder, signature, arguments):
            x, at, count = arguments
            numbers = _Numbers.of(context, builder, signature, arguments, 0)
            total = _variable(builder)
            builder.store(ir.Constant(_vector(LANES), [start] * LANES), total)
            with cgutils.for_range(builder, builder.udiv(count, _number(LANES))) as loop:
                more = _load(builder, numbers, _step(builder, at, loop.index, LANES))
                builder.store(combine(builder, builder.load(total), more), total)
            whole = builder.load(total)
            parts = [builder.extract_element(whole, ir.Constant(ir.IntType(32), n)) for n in range(LANES)]
            while len(parts) > 1:
                parts = [combine(builder, a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            return parts[0]

        return types.float32(x, types.int64, types.int64), generate

    return reduce


vector_sum = _reduction(0.0, lambda builder, a, b: builder.fadd(a, b))
# The largest that is a number.
vector_max = _reduction(-math.inf, lambda builder, a, b: builder.select(builder.fcmp_ordered(">", b, a), b, a))

# Numbers of two vectors: neighbours, and halves, as processors take them apart in one instruction.
_EVEN, _ODD = [0, 2, 8, 10, 4, 6, 12, 14], [1, 3, 9, 11, 5, 7, 13, 15]
_LOW, _HIGH = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]


def _sums_of_each(builder, vectors):
    """Eight vectors -> a vector of their eight sums: ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)) of each. Of vectors that
    hold two rows, eight sums of each row.
    """
    lanes = vectors[0].type.count
    for first, second in ((_EVEN, _ODD), (_EVEN, _ODD), (_LOW, _HIGH)):
        first, second = (_of_each_row(indices, lanes) for indices in (first, second))
        vectors = [
            builder.fadd(_chosen(builder, a, b, first), _chosen(builder, a, b, second))
            for a, b in zip(vectors[::2], vectors[1::2], strict=True)
        ]
    return vectors[0]


def _of_each_row(indices, lanes):
    """Indices into two vectors of eight -> into two vectors of `lanes`, which hold as many rows of eight as fit."""
    rows = range(lanes // LANES)
    return [LANES * row + index % LANES + lanes * (index // LANES) for row in rows for index in indices]


def _joined(builder, vectors):
    """One or two vectors -> one."""
    return vectors[0] if len(vectors) == 1 else _chosen(builder, *vectors, list(range(2 * LANES)))


def _vector(lanes):
    return ir.VectorType(ir.FloatType(), lanes)


def _chosen(builder, a, b, indices):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(indices)), indices))


def _filled_with(builder, number, lanes):
    """A vector of one number."""
    undefined = ir.Constant(_vector(lanes), ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return _chosen(builder, first, undefined, [0] * lanes)


def _add_products(builder, sums, factors, parts):
    for total, factor, part in zip(sums, factors, parts, strict=True):
        product = builder.fmul(factor, part, flags=_FUSED)
        builder.store(builder.fadd(builder.load(total), product, flags=_FUSED), total)


def _number(value):
    return ir.Constant(ir.IntType(64), value)


def _step(builder, at, step, times):
    return builder.add(at, builder.mul(step, _number(times)))


def _variable(builder, lanes=LANES):
    """Of zeros; the optimizer makes a register of it."""
    variable = cgutils.alloca_once(builder, _vector(lanes))
    builder.store(ir.Constant(_vector(lanes), None), variable)
    return variable


@dataclass(frozen=True, slots=True)
class _Numbers:
    """An array that is a kernel's argument."""

    context: Any
    data: Any
    size: Any

    @classmethod
    def of(cls, context, builder, signature, arguments, index):
        array = context.make_array(signature.args[index])(context, builder, arguments[index])
        return cls(context, array.data, array.nitems)

    def pointer(self, builder, index, count=1):
        """To `count` numbers from an index on."""
        if config.BOUNDSCHECK:
            most = builder.sub(self.size, _number(count))
            with builder.if_then(
                builder.or_(builder.icmp_signed("<", index, _number(0)), builder.icmp_signed(">", index, most))
            ):
                self.context.call_conv.return_user_exc(builder, IndexError, ("index is out of bounds",))
        return builder.gep(self.data, [index])


def _load(builder, numbers, index, lanes=LANES):
    return builder.load(builder.bitcast(numbers.pointer(builder, index, lanes), _vector(lanes).as_pointer()), align=4)


def _store(builder, vector, numbers, index):
    pointer = numbers.pointer(builder, index, vector.type.count)
    builder.store(vector, builder.bitcast(pointer, vector.type.as_pointer()), align=4)
