"""Whether calls fit CuPy's real interface, found out without a GPU.

`StandIn` takes CuPy's place: a module with CuPy's names whose arrays compute with NumPy, with array-api-compat's own
wrappers over it. Losses, kernels and tape run on it as they would on CuPy, and every call is recorded: of the namespace
(`array_api_compat.cupy`), of CuPy underneath (`cupy`) and of its arrays (`cupy.ndarray`).

`problems` holds a recorded call against the real thing: first the signature, or for a ufunc its inputs, keywords and
loops; then the function itself is called, on real CuPy arrays whose memory lies on the host. That has to pass what CuPy
checks before it turns to the device, and to fail there; on a machine with a GPU it has to return.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, ClassVar

import array_api_compat.cupy
import cupy
import numpy as np
import pytest
from cupy.cuda.memory import MemoryPointer, UnownedMemory

import arrayloss._machines.cupy

REAL = {"array_api_compat.cupy": array_api_compat.cupy, "cupy": cupy, "cupy.ndarray": cupy.ndarray}
_FUNCTIONS = (FunctionType, BuiltinFunctionType, cupy.ufunc, type(cupy.matmul))
#: What waits for the device to know a value or a shape.
READING = frozenset(
    {"__bool__", "__complex__", "__dlpack__", "__float__", "__index__", "__int__", "argwhere", "asnumpy"}
)
READING |= {"extract", "flatnonzero", "get", "item", "nonzero", "tobytes", "tolist"}
READING |= {"unique", "unique_all", "unique_counts", "unique_inverse", "unique_values"}


class HostReadError(Exception):
    """The host would wait for the device."""


@dataclass(frozen=True)
class Array:
    """Stands for an array among the arguments of a recorded call."""

    dtype: str
    shape: tuple[int, ...] = (2, 3)


class Call:
    """A call of a function or method, the arrays among its arguments described."""

    def __init__(self, module: str, name: str, *args: Any, **kwargs: Any) -> None:
        self.module, self.name, self.args, self.kwargs = module, name, args, kwargs
        #: Of a kernel made here: the real one.
        self.kernel: Any = None

    def __str__(self) -> str:
        arguments = [*map(repr, self.args), *(f"{k}={v!r}" for k, v in self.kwargs.items())]
        return f"{self.module}.{self.name}({', '.join(arguments)})"


def _map(function: Callable[[Any], Any], x: Any) -> Any:
    """Apply a function to everything in lists, tuples and dicts."""
    if type(x) in (list, tuple):
        return type(x)(_map(function, item) for item in x)
    return {k: _map(function, v) for k, v in x.items()} if isinstance(x, dict) else function(x)


# The stand-in ---------------------------------------------------------------------------------------------------------


class _Array:
    """An array with CuPy's attributes and no others: 0-d results stay arrays, NumPy gets nothing unasked."""

    stand_in: ClassVar[StandIn]
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, data: Any) -> None:
        self.held = np.asarray(data)

    @property
    def device(self) -> Any:
        return cupy.cuda.Device(0)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(cupy.ndarray, name):
            raise AttributeError(f"a CuPy array has no attribute {name}")
        value = getattr(self.held, name)
        if not callable(value):
            return self.stand_in.wrap(value)
        return self.stand_in.recorded("cupy.ndarray", name, lambda _, *args, **kwargs: value(*args, **kwargs), self)

    def __len__(self) -> int:
        return len(self.held)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")


def _getitem(x: np.ndarray, key: Any) -> Any:
    if any(np.asarray(k).dtype == np.bool_ for k in (key if isinstance(key, tuple) else (key,))):
        raise HostReadError("indexing with a mask")
    return x[key]


def _method(name: str, compute: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args: self.stand_in.recorded("cupy.ndarray", name, compute, self)(*args)


def _operator(ufunc: str, *, reverse: bool = False) -> Callable[..., Any]:
    def operate(self: _Array, *other: Any) -> Any:
        if other and getattr(other[0], "__array_ufunc__", ...) is None:
            return NotImplemented
        return getattr(self.stand_in.cupy, ufunc)(*((*other, self) if reverse else (self, *other)))

    return operate


_UNARY = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}
_COMPARISONS = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater"}
_COMPARISONS |= {"ge": "greater_equal"}
_BINARY = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "pow": "power"}
_BINARY |= {
    "floordiv": "floor_divide",
    "mod": "remainder",
    "matmul": "matmul",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
}
for _name, _ufunc in (_UNARY | _COMPARISONS | _BINARY).items():
    setattr(_Array, f"__{_name}__", _operator(_ufunc))
for _name, _ufunc in _BINARY.items():
    setattr(_Array, f"__r{_name}__", _operator(_ufunc, reverse=True))
for _name in READING:
    setattr(_Array, _name, _method(_name, lambda *_, **__: None))
_Array.__getitem__ = _method("__getitem__", _getitem)  # type: ignore[attr-defined]
_Array.__setitem__ = _method("__setitem__", lambda x, key, value: x.__setitem__(key, value))  # type: ignore[attr-defined]


def _count_nonzero(x: np.ndarray, axis: Any = None) -> Any:
    """Without an axis an array as on CuPy, where NumPy's gives a Python number."""
    return np.asarray(np.count_nonzero(x, axis))


class _Elementwise:
    """A kernel of lines that are assignments, in C that Python reads too."""

    FUNCTIONS: ClassVar[dict[str, Any]] = {
        "fabs": np.abs,
        "larger": np.maximum,
        "pow": np.power,
        "select": np.where,
        "sign_of": np.sign,
        "smaller": np.minimum,
        **{name: getattr(np, name) for name in ("exp", "expm1", "log", "log1p", "sqrt", "tanh")},
    }

    def __init__(self, stand_in: StandIn, inputs: str, outputs: str, operation: str, name: str, **options: Any) -> None:
        self.stand_in, self.real = stand_in, cupy.ElementwiseKernel(inputs, outputs, operation, name, **options)
        lines = (line.removesuffix(";").partition(" = ") for line in operation.split("\n"))
        self.lines = [(target, compile(expression, name, "eval")) for target, _, expression in lines]
        self.inputs = [parameter.split() for parameter in inputs.split(", ")]

    def __call__(self, *arrays: Any) -> Any:
        noted = Call("cupy", self.real.name, *_map(self.stand_in._described, arrays))
        noted.kernel = self.real
        self.stand_in.calls[f"{noted} {self.real.operation}"] = noted
        values = {name: x.held for (_, name), x in zip(self.inputs, arrays, strict=True)}
        kinds: dict[str, np.dtype] = {}
        for kind, name in self.inputs:  # one dtype for each letter, as CuPy asks
            assert kinds.setdefault(kind, values[name].dtype) == values[name].dtype
        values |= {"T": lambda x: np.asarray(x).astype(kinds["T"]), **self.FUNCTIONS}
        shape = np.broadcast_shapes(*(x.held.shape for x in arrays))
        with np.errstate(all="ignore"):
            for target, expression in self.lines:
                found = np.asarray(eval(expression, values))
                values[target.split()[-1]] = found.astype(bool if " bool " in target else kinds["T"])
        return self.stand_in.ndarray(np.broadcast_to(values["out"], shape).copy())


class StandIn:
    """CuPy's place taken: `with stand_in.installed(): loss(stand_in.array(x), ...)` fills `stand_in.calls`."""

    def __init__(self) -> None:
        #: Each once.
        self.calls: dict[str, Call] = {}
        self.ndarray = type("ndarray", (_Array,), {"stand_in": self})
        numpy = {**vars(np), "count_nonzero": _count_nonzero}
        self.cupy = self._module("cupy", lambda name: numpy[name])
        self.cupy.ndarray = self.ndarray
        self.cupy.ElementwiseKernel = partial(_Elementwise, self)
        self.cupy.cuda = ModuleType("cupy.cuda")
        self.cupy.cuda.Device = contextlib.nullcontext
        with pytest.MonkeyPatch.context() as patch:
            # The wrappers take their CuPy when they are imported: once more, with the stand-in there.
            patch.setitem(sys.modules, "cupy", self.cupy)
            patch.setattr(array_api_compat, "cupy", array_api_compat.cupy)
            for name in [n for n in sys.modules if f"{n}.".startswith("array_api_compat.cupy.")]:
                patch.delitem(sys.modules, name)
            wrappers = importlib.import_module("array_api_compat.cupy")
        self.namespace = self._module("array_api_compat.cupy", lambda name: getattr(wrappers, name), plain=False)
        with self.installed():
            self.kernels = importlib.import_module("arrayloss._machines.cupy")

    def _module(self, name: str, function: Callable[[str], Callable[..., Any]], *, plain: bool = True) -> Any:
        """Return a module with the public names of a real one, whose functions are recorded ones."""

        def lazily(public: str) -> Callable[..., Any]:
            return lambda *args, **kwargs: self.recorded(name, public, function(public), plain=plain)(*args, **kwargs)

        module = ModuleType(name)
        for public, real in vars(REAL[name]).items():
            if not public.startswith("_"):
                setattr(module, public, lazily(public) if isinstance(real, _FUNCTIONS) else real)
        return module

    def recorded(
        self, module: str, name: str, function: Callable[..., Any], *bound: Any, plain: bool = True
    ) -> Callable[..., Any]:
        """Return a function that is noted when called; with `plain` it gets NumPy arrays."""

        def call(*args: Any, **kwargs: Any) -> Any:
            noted = Call(module, name, *_map(self._described, (*bound, *args)), **_map(self._described, kwargs))
            self.calls[str(noted)] = noted
            if name in READING:
                raise HostReadError(str(noted))
            if not plain:
                return function(*args, **kwargs)
            with np.errstate(all="ignore"):  # a GPU does not warn
                return self.wrap(function(*_map(self._held, (*bound, *args)), **_map(self._held, kwargs)))

        return call

    def _described(self, x: Any) -> Any:
        return Array(x.held.dtype.name, x.held.shape) if isinstance(x, self.ndarray) else x

    def _held(self, x: Any) -> Any:
        return x.held if isinstance(x, self.ndarray) else x

    def wrap(self, x: Any) -> Any:
        """Return NumPy's results, scalars included, as arrays of the stand-in."""
        return _map(lambda v: self.ndarray(v) if isinstance(v, (np.ndarray, np.generic)) else v, x)

    def array(self, x: Any) -> Any:
        """Return an array of the stand-in, or a tuple of them."""
        return _map(self.ndarray, x)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Put the stand-in where CuPy was; `calls` begins empty."""
        self.calls.clear()
        places = {"cupy": self.cupy, "array_api_compat.cupy": self.namespace}
        with pytest.MonkeyPatch.context() as patch:
            for name, module in places.items():
                patch.setitem(sys.modules, name, module)
            patch.setattr(array_api_compat, "cupy", self.namespace)
            patch.setattr(arrayloss._machines, "cupy", None)  # whatever the import makes of it is undone
            for name in [n for n in sys.modules if f"{n}.".startswith("arrayloss._machines.cupy.")]:
                patch.delitem(sys.modules, name)
            if hasattr(self, "kernels"):
                patch.setitem(sys.modules, "arrayloss._machines.cupy", self.kernels)
            yield


# The check ------------------------------------------------------------------------------------------------------------


def problems(call: Call) -> list[str]:
    """Return why a call does not fit CuPy, which is nothing where it does. Not while a stand-in is installed."""
    target = call.kernel or getattr(REAL[call.module], call.name, None)
    if target is None:
        return [f"{call}: {call.module} has no {call.name}"]
    found = _of_ufunc(target, call) if isinstance(target, cupy.ufunc) else _of_signature(target, call)
    return [f"{call}: {problem}" for problem in (_of_numpy(call) + found or _when_called(target, call))]


def _of_numpy(call: Call) -> list[str]:
    arrays: list[Any] = []
    _map(lambda x: arrays.append(x) if isinstance(x, np.ndarray) else None, [*call.args, call.kwargs])
    return ["an array of NumPy among the arguments"] if arrays and call.name not in ("array", "asarray") else []


def _of_signature(target: Any, call: Call) -> list[str]:
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # compiled, and without one
        return []
    try:
        signature.bind(*call.args, **call.kwargs)
    except TypeError as error:
        return [f"{error} in {signature}"]
    return []


def _of_ufunc(ufunc: Any, call: Call) -> list[str]:
    if len(call.args) != ufunc.nin:
        return [f"{len(call.args)} inputs, expected {ufunc.nin}"]
    if unknown := set(call.kwargs) - {"out", "dtype", "casting"}:
        return [f"a ufunc has no keyword {', '.join(unknown)}"]
    for loop in ufunc.types:
        inputs = map(_loop_dtype, loop.partition("->")[0])
        if all(dtype is not None and _casts(x, dtype) for x, dtype in zip(call.args, inputs, strict=True)):
            return []
    return [f"no loop among {ufunc.types}"]


def _loop_dtype(char: str) -> np.dtype | None:
    try:
        return np.dtype("bfloat16" if char == "E" else char)
    except TypeError:  # nobody has registered bfloat16
        return None


def _casts(x: Any, dtype: np.dtype) -> bool:
    if isinstance(x, (Array, np.generic)):
        return np.can_cast(x.dtype, dtype)
    kinds = {bool: "biufcV", int: "iufcV", float: "fcV"}  # bfloat16 is of kind V
    return dtype.kind in kinds.get(type(x), "")


def _when_called(target: Callable[..., Any], call: Call) -> list[str]:
    # CUDA's own libraries are loaded when they are needed, and need not be there.
    expected = (ImportError,) if has_gpu() else (ImportError, cupy.cuda.runtime.CUDARuntimeError)
    with pytest.MonkeyPatch.context() as patch:
        # Where CuPy asks for its stream, the error that there is no GPU cannot be raised, only reported.
        patch.setattr(sys, "unraisablehook", lambda unraisable: None)
        try:
            target(*_map(real_array, call.args), **_map(real_array, call.kwargs))
        except expected:
            return []
        except Exception as error:
            return [repr(error)]
    return []


def has_gpu() -> bool:
    try:
        return cupy.cuda.runtime.getDeviceCount() > 0
    except cupy.cuda.runtime.CUDARuntimeError:
        return False


def has_bfloat16() -> bool:
    """Whether this CuPy computes with ml_dtypes' bfloat16, registered with NumPy by now."""
    return "E->E" in cupy.exp.types and _loop_dtype("E") is not None


def real_array(x: Any) -> Any:
    """Return a real CuPy array for the description of one: without a GPU its memory is on the host."""
    if not isinstance(x, Array):
        return x
    if has_gpu():
        return cupy.zeros(x.shape, dtype=x.dtype)
    held = np.zeros(x.shape, dtype=x.dtype)
    return cupy.ndarray(
        x.shape, dtype=held.dtype, memptr=MemoryPointer(UnownedMemory(held.ctypes.data, held.nbytes or 1, held, 0), 0)
    )
