"""Sums of products on a CPU that stay in vector registers, as parts of kernels of numba, which keeps no array in them.

Every sum has one order, whatever is computed beside it. Arrays are float32 in C order. "at" is the index of a first
number in the whole array, "step" the distance to the next row. Nothing checks bounds, except with NUMBA_BOUNDSCHECK=1,
as in all kernels of numba.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from csm_bundle.runtime.panels import LANES

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_ZEROS, _UNDEFINED = ir.Constant(_VECTOR, None), ir.Constant(_VECTOR, ir.Undefined)
_FUSED = ("contract",)  # a product and a sum are rounded once, where the processor can


def weighted_sums(num_rows: int, num_vectors: int, *, adds: bool = False):
    """Makes tile(x, x_at, x_step, weight, at, step, count, y, y_at, y_step): y = x @ weight, for num_rows rows of x and
    8 * num_vectors columns of `count` rows of weight. A sum goes over the rows of weight in their order. adds: it goes
    on from y, so a product in parts has the bits of the whole.
    """

    @intrinsic
    def tile(typing_context, x, x_at, x_step, weight, at, step, count, y, y_at, y_step):
        def generate(context, builder, signature, arguments):
            x, x_at, x_step, weight, at, step, count, y, y_at, y_step = arguments
            x, weight, y = (_Numbers.of(context, builder, signature, arguments, index) for index in (0, 3, 7))
            sums = [[_variable(builder) for _ in range(num_vectors)] for _ in range(num_rows)]
            into = [
                [builder.add(_step(builder, y_at, y_step, row), _number(LANES * v)) for v in range(num_vectors)]
                for row in range(num_rows)
            ]
            if adds:
                for of_row, indices in zip(sums, into, strict=True):
                    for total, index in zip(of_row, indices, strict=True):
                        builder.store(_load(builder, y, index), total)
            begins = [_step(builder, x_at, x_step, row) for row in range(num_rows)]
            with cgutils.for_range(builder, count) as loop:
                row = builder.add(at, builder.mul(loop.index, step))
                parts = [_load(builder, weight, builder.add(row, _number(LANES * v))) for v in range(num_vectors)]
                for begin, of_row in zip(begins, sums, strict=True):
                    factor = builder.load(x.pointer(builder, builder.add(begin, loop.index)))
                    _add_products(builder, of_row, [_filled_with(builder, factor)] * num_vectors, parts)
            for of_row, indices in zip(sums, into, strict=True):
                for total, index in zip(of_row, indices, strict=True):
                    _store(builder, builder.load(total), y, index)
            return context.get_dummy_value()

        numbers = (types.int64,) * 2
        return types.void(x, *numbers, weight, *numbers, types.int64, y, *numbers), generate

    return tile


@intrinsic
def eight_dots(typing_context, x, x_at, weight, at, step, count, y, y_at):
    """Writes to y the products of `count` numbers of x, a multiple of eight, with each of eight rows of weight."""

    def generate(context, builder, signature, arguments):
        x, x_at, weight, at, step, count, y, y_at = arguments
        x, weight, y = (_Numbers.of(context, builder, signature, arguments, index) for index in (0, 2, 6))
        sums = [_variable(builder) for _ in range(LANES)]
        with cgutils.for_range(builder, builder.udiv(count, _number(LANES))) as loop:
            along = builder.mul(loop.index, _number(LANES))
            factors = _load(builder, x, builder.add(x_at, along))
            begin = builder.add(at, along)
            parts = [_load(builder, weight, _step(builder, begin, step, row)) for row in range(LANES)]
            _add_products(builder, sums, [factors] * LANES, parts)
        _store(builder, _sums_of_each(builder, [builder.load(total) for total in sums]), y, y_at)
        return context.get_dummy_value()

    number = types.int64
    return types.void(x, number, weight, number, number, number, y, number), generate


@intrinsic
def vector_sum(typing_context, x, at, count):
    """The sum of `count` numbers, a multiple of eight, in eight sums that are added at the end."""

    def generate(context, builder, signature, arguments):
        x, at, count = arguments
        numbers = _Numbers.of(context, builder, signature, arguments, 0)
        total = _variable(builder)
        with cgutils.for_range(builder, builder.udiv(count, _number(LANES))) as loop:
            more = _load(builder, numbers, _step(builder, at, loop.index, LANES))
            builder.store(builder.fadd(builder.load(total), more), total)
        parts = [builder.extract_element(builder.load(total), ir.Constant(ir.IntType(32), n)) for n in range(LANES)]
        while len(parts) > 1:
            parts = [builder.fadd(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    return types.float32(x, types.int64, types.int64), generate


# Numbers of two vectors: neighbours, and halves, as processors take them apart in one instruction.
_EVEN, _ODD = [0, 2, 8, 10, 4, 6, 12, 14], [1, 3, 9, 11, 5, 7, 13, 15]
_LOW, _HIGH = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]


def _sums_of_each(builder, vectors):
    """Eight vectors -> a vector of their eight sums: ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)) of each."""
    for first, second in ((_EVEN, _ODD), (_EVEN, _ODD), (_LOW, _HIGH)):
        vectors = [
            builder.fadd(_chosen(builder, a, b, first), _chosen(builder, a, b, second))
            for a, b in zip(vectors[::2], vectors[1::2], strict=True)
        ]
    return vectors[0]


def _chosen(builder, a, b, indices):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), LANES), indices))


def _filled_with(builder, number):
    """A vector of one number."""
    return _chosen(
        builder, builder.insert_element(_UNDEFINED, number, ir.Constant(ir.IntType(32), 0)), _UNDEFINED, [0] * LANES
    )


def _add_products(builder, sums, factors, parts):
    for total, factor, part in zip(sums, factors, parts, strict=True):
        product = builder.fmul(factor, part, flags=_FUSED)
        builder.store(builder.fadd(builder.load(total), product, flags=_FUSED), total)


def _number(value):
    return ir.Constant(ir.IntType(64), value)


def _step(builder, at, step, times):
    return builder.add(at, builder.mul(step, _number(times)))


def _variable(builder):
    """Of zeros; the optimizer makes a register of it."""
    variable = cgutils.alloca_once(builder, _VECTOR)
    builder.store(_ZEROS, variable)
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


def _load(builder, numbers, index):
    return builder.load(builder.bitcast(numbers.pointer(builder, index, LANES), _VECTOR.as_pointer()), align=4)


def _store(builder, vector, numbers, index):
    builder.store(vector, builder.bitcast(numbers.pointer(builder, index, LANES), _VECTOR.as_pointer()), align=4)
