"""Triton's interpreter, without work that takes most of its time and changes no result. Importing needs triton."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import triton.language as tl
from triton.runtime import interpreter


@contextmanager
def patched_once() -> Iterator[Any]:
    """The language as the interpreter has it, patched once; it would do so again in each call of a device function.

    Three more things that take time and change no result are left out. In 32 bits the interpreter adds and multiplies
    once more in 64, for a check of overflow that it makes in debug mode alone. It makes a table of types in each
    operation, and the constants of a shape with each value of it.
    """
    builder, patch, numpy_type = interpreter.interpreter_builder, interpreter._patch_lang, interpreter._get_np_dtype
    scope, options = patch(tl.standard.zeros.rewrite()), builder.options  # a function that sees all of the language
    make_tensor, make_block = tl.tensor.__init__, tl.block_type.__init__
    interpreter._patch_lang, interpreter._get_np_dtype = _nothing_to_patch, _with_known_types(numpy_type)
    tl.tensor.__init__, tl.block_type.__init__ = _with_known_shapes(make_tensor), _with_known_names(make_block)
    builder.options = replace(options, sanitize_overflow=options.debug)
    try:
        yield builder
    finally:
        interpreter._patch_lang, interpreter._get_np_dtype, builder.options = patch, numpy_type, options
        tl.tensor.__init__, tl.block_type.__init__ = make_tensor, make_block
        scope.restore()


def _nothing_to_patch(function: Any) -> Any:
    return interpreter._LangPatchScope()


def _with_known_types(find: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`interpreter._get_np_dtype`, which looks for the numpy type of a scalar once."""
    known: dict[str, Any] = {}

    def numpy_type(dtype: Any) -> Any:
        name = dtype.scalar.name
        if name not in known:
            known[name] = find(dtype.scalar)
        return known[name]

    return numpy_type


def _with_known_shapes(make: Callable[..., None]) -> Callable[..., None]:
    """`tl.tensor.__init__`, which takes the constants of a shape from the first value that had it."""
    known: dict[str, tuple[Any, Any]] = {}

    def make_tensor(self: Any, handle: Any, type: Any) -> None:
        name = type.name
        if name not in known:
            make(self, handle, type)
            known[name] = self.shape, self.numel
            return
        self.handle, self.type, self.dtype = handle, type, type.scalar
        self.shape, self.numel = known[name]

    return make_tensor


def _with_known_names(make: Callable[..., None]) -> Callable[..., None]:
    """`tl.block_type.__init__`, which takes shape, size and name from the first type that had them."""
    known: dict[Any, tuple[Any, Any, Any]] = {}

    def make_block(self: Any, element_ty: Any, shape: Any) -> None:
        key = element_ty.name, tuple([one.value if isinstance(one, tl.constexpr) else one for one in shape])
        if key not in known:
            make(self, element_ty, shape)
            known[key] = self.shape, self.numel, self.name
            return
        self.element_ty = element_ty
        self.shape, self.numel, self.name = known[key]

    return make_block
