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

Array = Any

#: Entries of a block of entries, of which a formula makes many tiles, and of one of classes, of which it makes few.
ENTRIES, CLASSES = 1 << 15, 1 << 16
#: Entries up to which the portable form, on whole arrays, is as fast.
SMALL = 1 << 12


class Pool:
    """The work arrays of one thread in one call."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self.free: dict[Any, list[Array]] = {}

    def empty(self, shape: tuple[int, ...], dtype: Any = None) -> Tile:
        """Return a tile that is free again once nothing refers to it."""
        key = shape, dtype or self.dtype
        free = self.free.get(key)
        return Tile(free.pop() if free else np.empty(*key), self, key)

    def lent(self, x: Array) -> Tile:
        """Return an array as a tile, which nothing is written into."""
        return Tile(x, self, None)


class Tile:
    """A block as formulas see it."""

    __slots__ = ("a", "key", "pool")

    def __init__(self, a: Array, pool: Pool, key: Any) -> None:
        self.a, self.pool, self.key = a, pool, key

    def __del__(self) -> None:
        if self.key is not None:
            self.pool.free.setdefault(self.key, []).append(self.a)


def array(x: Any) -> Any:
    """Return the array of a tile, and a number as it is: what a formula returns may be either."""
    return x.a if type(x) is Tile else x


def _operation(ufunc: Any, dtype: Any = None) -> Callable[..., Tile]:
    """Return a ufunc as an operation on tiles of one shape and numbers."""

    def unary(x: Tile) -> Tile:
        out = x.pool.empty(x.a.shape, dtype)
        ufunc(x.a, out=out.a)
        return out

    def binary(x: Any, y: Any) -> Tile:
        if type(x) is Tile:
            out = x.pool.empty(x.a.shape, dtype)
            ufunc(x.a, y.a if type(y) is Tile else y, out=out.a)
        else:
            out = y.pool.empty(y.a.shape, dtype)
            ufunc(x, y.a, out=out.a)
        return out

    return unary if ufunc.nin == 1 else binary


def _where(mask: Tile, x: Any, y: Any) -> Tile:
    out = mask.pool.empty(mask.a.shape)
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
#: The namespace of tiles. What is the same everywhere is a number.
XP = SimpleNamespace(
    **{name: _operation(getattr(np, name)) for name in _UFUNCS},
    pow=_operation(np.power),
    where=_where,
    zeros_like=lambda x: 0.0,
    ones_like=lambda x: 1.0,
    full_like=lambda x, value: value,
)


# Blocks -------------------------------------------------------------------------------------------------------------


def planes(x: Array) -> Array:
    """Return `(N, C, *S)` as `(planes, C, positions)`: one plane an image, or one for all where these are small."""
    images, classes = x.shape[:2]
    positions = math.prod(x.shape[2:])
    x = x.reshape((images, classes, positions))
    if images > 1 and (positions == 1 or images * positions * classes <= CLASSES):
        return x.transpose((1, 0, 2)).reshape((1, classes, images * positions))
    return x


def rows(x: Array, like: Array) -> Array:
    """Return `(N, *S)` as `(planes, positions)`, in the order of the positions of `planes`."""
    return x.reshape((like.shape[0], like.shape[2]))


def from_planes(x: Array, shape: tuple[int, ...]) -> Array:
    """Undo `planes` for an array of the given shape."""
    if x.shape[0] != shape[0]:
        x = x.reshape((shape[1], shape[0], -1)).transpose((1, 0, 2))
    return x.reshape(shape)


def blocks(shape: tuple[int, ...], size: int) -> list[tuple[int, slice]]:
    """Return the plane and the positions of blocks of about `size` entries, all classes in each of them.

    They are about as wide as each other: a sum over the classes of a single position is made in another order, and
    positions that tie would tie no more.
    """
    count, classes, positions = shape
    wide = -(-positions // max(1, -(-positions * classes // size))) or 1
    return [(n, slice(at, min(at + wide, positions))) for n in range(count) for at in range(0, positions, wide)]


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


def run(dtype: Any, work: Callable[[Pool, Any], None], places: list[Any]) -> None:
    """Do the work at all places, with a pool for each thread. The caller sees to it that NumPy says nothing of it.

    Infinities and NaN at ignored positions are replaced; at valid ones the result says what came.
    """

    def part(mine: list[Any]) -> None:
        pool = Pool(dtype)
        for place in mine:
            work(pool, place)

    def quiet_part(mine: list[Any]) -> None:
        with np.errstate(all="ignore"):  # which each thread has its own of
            part(mine)

    number = min(getattr(_wanted, "number", 1), len(places))
    if number <= 1:
        return part(places)
    if number not in _executors:
        _executors[number] = ThreadPoolExecutor(number, "arrayloss")
    list(_executors[number].map(quiet_part, [places[i::number] for i in range(number)]))
