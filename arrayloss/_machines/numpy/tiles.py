"""Blocks that stay in the cache, and tiles: what a formula is given, and writes its results into, in each of them.

An operation on tiles writes into a work array that an earlier one has left: memory asked for anew costs as much as the
arithmetic, and more on several threads, which wait for each other in the system. Blocks are independent, so that
results do not depend on the number of threads.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from arrayloss._machines.formula import NUMBERS, Array

#: Entries of a block of entries, of which a formula makes many tiles, and of one of classes, of which it makes few.
ENTRIES, CLASSES = 1 << 15, 1 << 16
#: Entries up to which the portable form, on whole arrays, is as fast.
SMALL = 1 << 12


class Tile:
    """An array of a block as formulas see it; a work array is free again once nothing refers to its tile."""

    __slots__ = ("a", "block", "key")

    def __init__(self, a: Array, block: Block, key: Any = None) -> None:
        self.a, self.block, self.key = a, block, key

    def __del__(self) -> None:
        if self.key is not None:
            self.block.free.setdefault(self.key, []).append(self.a)


def array(x: Any) -> Any:
    """Return the array of a tile, and a number as it is: what a formula returns may be either."""
    return x.a if type(x) is Tile else x


def _operation(ufunc: Any, dtype: Any = None) -> Callable[..., Tile]:
    """Return a ufunc as an operation on tiles of one shape and numbers."""

    def unary(x: Tile) -> Tile:
        out = x.block.empty(dtype)
        ufunc(x.a, out=out.a)
        return out

    def binary(x: Any, y: Any) -> Tile:
        if type(x) is Tile:
            out = x.block.empty(dtype)
            ufunc(x.a, y.a if type(y) is Tile else y, out=out.a)
        else:
            out = y.block.empty(dtype)
            ufunc(x, y.a, out=out.a)
        return out

    return unary if ufunc.nin == 1 else binary


def _where(mask: Tile, x: Any, y: Any) -> Tile:
    out = mask.block.empty()
    np.copyto(out.a, array(y))
    np.copyto(out.a, array(x), where=mask.a)
    return out


def _reflected(operation: Callable[..., Tile]) -> Callable[..., Tile]:
    return lambda x, y: operation(y, x)


for _name, _ufunc in {"add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.divide}.items():
    setattr(Tile, f"__{_name}__", _operation(_ufunc))
    setattr(Tile, f"__r{_name}__", _reflected(_operation(_ufunc)))
for _name, _ufunc in {"lt": np.less, "gt": np.greater, "le": np.less_equal, "ge": np.greater_equal}.items():
    setattr(Tile, f"__{_name}__", _operation(_ufunc, np.dtype(bool)))
setattr(Tile, "__neg__", _operation(np.negative))  # noqa: B010
_UFUNCS = ["exp", "log", "log1p", "expm1", "abs", "sign", "maximum", "minimum", "sqrt", "tanh"]
#: The namespace of tiles.
XP = SimpleNamespace(
    **{name: _operation(getattr(np, name)) for name in _UFUNCS},
    pow=_operation(np.power),
    where=_where,
    **NUMBERS,
)


# Threads ------------------------------------------------------------------------------------------------------------

_wanted = threading.local()
_executors: dict[int, ThreadPoolExecutor] = {}
# A child of a fork has none of the threads of its parent.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_executors.clear)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let the blocks of what is called within run on a number of threads."""
    before = getattr(_wanted, "number", 1)
    _wanted.number = number
    try:
        yield
    finally:
        _wanted.number = before


# Blocks -------------------------------------------------------------------------------------------------------------


class Blocks:
    """A call on scores `(N, C, *S)` in blocks of about `size` entries, all classes of some positions in each of them.

    Arrays of the call are held as `(planes, C, positions)`, those of positions as `(planes, positions)`: a plane is an
    image, or all of them where they are small and need not be kept `apart`.

    Blocks are about as wide as each other: a sum over the classes of a single position is made in another order, and
    positions that tie would tie no more.
    """

    def __init__(self, z: Array, valid: Array | None = None, size: int | None = None, *, apart: bool = False) -> None:
        images, classes, *space = self.shape = z.shape
        positions = math.prod(space)
        self.dtype, self.joined = z.dtype, images > 1 and not apart and (positions == 1 or z.size <= CLASSES)
        planes, wide = (1, images * positions) if self.joined else (images, positions)
        self.cut = planes, classes, wide
        self.valid = None if valid is None else self.planes(valid)
        step = -(-wide // max(1, -(-wide * classes // (size or CLASSES)))) or 1
        starts = range(0, wide, step)
        self.places = [(n, slice(at, min(at + step, wide))) for n in range(planes) for at in starts]
        self.index = np.arange(min(step, wide))

    def planes(self, x: Array) -> Array:
        """Return an array of the call as it is held."""
        planes, classes, wide = self.cut
        if x.ndim < len(self.shape):
            return x.reshape((planes, wide))
        if self.joined:
            x = x.reshape((self.shape[0], classes, wide // self.shape[0])).transpose((1, 0, 2))
        return x.reshape(self.cut)

    def restored(self, x: Array) -> Array:
        """Return an array as the call has it."""
        if x.ndim == 2:
            return x.reshape((self.shape[0], *self.shape[2:]))
        if self.joined:
            x = x.reshape((self.cut[1], self.shape[0], -1)).transpose((1, 0, 2))
        return x.reshape(self.shape)

    def empty(self) -> Array:
        """Return a new array of the shape of the scores, as it is held."""
        return np.empty(self.cut, self.dtype)

    def positions(self) -> Array:
        """Return a new array of positions, as it is held."""
        return np.empty((self.cut[0], self.cut[2]), self.dtype)

    def run(self, work: Callable[[Block], None]) -> None:
        """Do the work in all blocks, on several threads where told so. The caller sees to it that NumPy is quiet.

        Infinities and NaN at ignored positions are replaced; at valid ones the result says what came.
        """

        def part(numbers: range) -> None:
            block = Block(self)
            for number in numbers:
                block.number, (block.plane, block.at) = number, self.places[number]
                block.shape = self.cut[1], block.at.stop - block.at.start
                work(block)

        def quiet_part(numbers: range) -> None:
            with np.errstate(all="ignore"):  # which each thread has its own of
                part(numbers)

        count = len(self.places)
        number = min(getattr(_wanted, "number", 1), count)
        if number <= 1:
            return part(range(count))
        if number not in _executors:
            _executors[number] = ThreadPoolExecutor(number, "arrayloss")
        list(_executors[number].map(quiet_part, [range(i, count, number) for i in range(number)]))


class Block:
    """The block that a thread is at, and the work arrays of the thread. Called, it returns its part of an array."""

    number: int
    plane: int
    at: slice
    shape: tuple[int, int]

    def __init__(self, call: Blocks) -> None:
        self.call = call
        self.free: dict[Any, list[Array]] = {}

    def __call__(self, x: Array) -> Array:
        return x[self.plane, ..., self.at]

    @property
    def index(self) -> Array:
        """The number of each position, which together with its label is the place of a score."""
        return self.call.index[: self.shape[1]]

    def empty(self, dtype: Any = None) -> Tile:
        """Return a work array."""
        key = self.shape, dtype or self.call.dtype
        free = self.free.get(key)
        return Tile(free.pop() if free else np.empty(*key), self, key)

    def lent(self, x: Array) -> Tile:
        """Return an array of the block as a tile, which formulas write nothing into."""
        return Tile(x, self)

    def into(self, x: Array | None) -> Tile:
        """Return what is to be written into as a tile: the part of an array, or of None a work array."""
        return self.empty() if x is None else Tile(self(x), self)

    def hit(self, labels: Array, on: float = 1.0, off: float = 0.0) -> Tile:
        """Return a tile that is `on` at the labels and else `off`."""
        tile = self.empty()
        tile.a.fill(off)
        tile.a[labels, self.index] = on
        return tile

    def flat(self, x: Array, labels: Array) -> tuple[Array, Array]:
        """Return the plane of an array in one row, and the places of labels there: two indices would take longer."""
        return x[self.plane].reshape(-1), labels * self.call.cut[2] + np.arange(self.at.start, self.at.stop)

    def clear(self, x: Array) -> None:
        """Write 0 where not valid."""
        if self.call.valid is None:
            return
        valid = self(self.call.valid)
        ignored = valid.size - np.count_nonzero(valid)
        if ignored * 8 > valid.size:
            # The bits, which of a NaN become 0 too, at a cost that does not depend on how much is ignored.
            bits = x.view(f"i{x.itemsize}")
            bits &= -valid.astype(bits.dtype)
        elif ignored:
            x[..., ~valid] = 0.0

    def clear_scale(self, scale: Array, x: Array) -> None:
        """Write 0 for what `x` is to be multiplied by where not valid, and into it if there is a NaN in either."""
        if self.call.valid is not None:
            finite = np.isfinite(np.add.reduce(scale))
            self.clear(scale)
            if not finite:
                self.clear(x)

    def cleared(self, tile: Tile) -> Tile:
        """Return a tile that is 0 where not valid."""
        if self.call.valid is None:
            return tile
        if tile.key is None:
            tile, given = self.empty(), tile.a
            np.copyto(tile.a, given)
        self.clear(tile.a)
        return tile
