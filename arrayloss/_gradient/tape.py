"""Reverse-mode differentiation for libraries without autodiff.

The variable is an array itself: it has `__array_namespace__`, so the losses run on it as they stand, and every
operation on it is recorded with its rule (see `rules.py`). A function that has no rule raises; none passes silently as
a constant. A tape lives for one call of `value_and_grad` and is used once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from arrayloss._gradient import rules
from arrayloss._machines import generic
from arrayloss._machines.namespace import Library, device_of

Array = Any
#: Maps the gradient of a result to the gradient of one argument.
Vjp = Callable[[Array], Array]


class Tape:
    """The operations of one call, in order."""

    def __init__(self, library: Library, kind: type[Variable] | None = None) -> None:
        self.library = library
        #: The name of the library, for what asks a variable for it.
        self.name = str(library.name)
        #: That library as variables see it.
        self.traced = _traced(library)
        #: For each variable: the indices of its arguments and the rules towards them.
        self.nodes: list[list[tuple[int, Vjp]]] = []
        self._kind = kind or Variable

    def variable(self, value: Array, arguments: list[tuple[int, Vjp]]) -> Variable:
        """Return a new variable that depends on recorded ones."""
        nodes = self.nodes
        nodes.append(arguments)
        return self._kind(self, value, len(nodes) - 1)

    def gradients(self, output: Any, inputs: list[Variable]) -> list[Array]:
        """Return the gradient of the sum of `output` with respect to the inputs."""
        xp = self.library.xp
        found: dict[int, Array] = {}
        if isinstance(output, Variable):
            one = self.library.kernels.scalar_like(xp, output.value, 1.0)
            found[output.index] = one if output.ndim == 0 else xp.broadcast_to(one, output.shape)
        wanted = {x.index for x in inputs}
        for index in range(len(self.nodes) - 1, -1, -1):
            g = found.get(index) if index in wanted else found.pop(index, None)
            if g is None:
                continue
            for argument, vjp in self.nodes[index]:
                step = vjp(g)
                before = found.get(argument)
                found[argument] = step if before is None else before + step
            self.nodes[index] = []
        gradients = [found[x.index] if x.index in found else xp.zeros_like(x.value) for x in inputs]
        # Two gradients may be one array, which a caller might write to.
        return gradients if len(gradients) == 1 else [xp.asarray(g, copy=True) for g in gradients]


def record(value: Array, pairs: Iterable[tuple[Any, Vjp]]) -> Variable:
    """Return the result of an operation on variables: its value, and each argument with the rule towards it."""
    tape, arguments = None, []
    for argument, vjp in pairs:
        if isinstance(argument, Variable):
            if tape is not None and argument.tape is not tape:
                raise TypeError("value_and_grad: variables of two tapes in one operation; nest by torch or JAX instead")
            tape = argument.tape
            arguments.append((argument.index, vjp))
    assert tape is not None, "an operation is recorded where an argument is a variable"
    return tape.variable(value, arguments)


def value_of(x: Any) -> Any:
    """Return the array behind a variable, and anything else as it is."""
    return x.value if isinstance(x, Variable) else x


#: Methods of NumPy's arrays, and the functions of the array API for them that have another name.
_FUNCTIONS = {
    "cumsum": "cumulative_sum",
    "flatten": "reshape",
    "mT": "matrix_transpose",
    "ravel": "reshape",
    "swapaxes": "moveaxis",
    "transpose": "permute_dims",
}


class Variable:
    """An array whose history is recorded. Operators, array API functions and basic indexing work on it."""

    __slots__ = ("index", "tape", "value")
    __array_ufunc__: Any = None  # NumPy and CuPy hand their operators over to the ones below
    __array_priority__ = 1000

    def __init__(self, tape: Tape, value: Array, index: int) -> None:
        self.tape, self.value, self.index = tape, value, index

    @property
    def library_name(self) -> str:
        """The name of the library of the array behind it."""
        return self.tape.name

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)

    @property
    def ndim(self) -> int:
        return len(self.value.shape)

    @property
    def size(self) -> int:
        return int(self.value.size)

    @property
    def dtype(self) -> Any:
        return self.value.dtype

    @property
    def device(self) -> Any:
        return device_of(self.value)

    @property
    def T(self) -> Any:
        return self.tape.traced.xp.permute_dims(self, (1, 0))

    def __arrayloss_library__(self) -> Library:
        return self.tape.traced

    def __array_namespace__(self, *, api_version: str | None = None) -> TapeNamespace:
        namespace: TapeNamespace = self.tape.traced.xp
        return namespace

    def __repr__(self) -> str:
        return f"Variable({self.value!r})"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in Variable.__slots__:
            raise AttributeError(name)
        function = _FUNCTIONS.get(name, name)
        instead = f"write xp.{function}(...)" if function in rules.RULES else "write it in functions of xp"
        raise AttributeError(
            f"value_and_grad: the arrays of a loss have no {name} where the gradient is recorded; {instead}, with "
            f"xp = logits.__array_namespace__()"
        )

    def _refuse(self, *_: object, **__: object) -> Any:
        raise TypeError(
            "value_and_grad: the loss turned its logits into a plain number or array, which would cut the gradient; "
            "use the operators and array API functions of their namespace (logits.__array_namespace__())"
        )

    __array__ = __bool__ = __float__ = __int__ = __index__ = __complex__ = __iter__ = __setitem__ = _refuse
    __dlpack__ = __hash__ = _refuse

    def __getitem__(self, key: Any) -> Any:
        return self.tape.traced.xp._call("getitem", self, key)

    def __neg__(self) -> Any:
        return self.tape.traced.xp._call("negative", self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self.tape.traced.xp._call("abs", self)

    def __eq__(self, other: object) -> Any:
        return self.value == value_of(other)

    def __ne__(self, other: object) -> Any:
        return self.value != value_of(other)

    def __lt__(self, other: Any) -> Any:
        return self.value < value_of(other)

    def __le__(self, other: Any) -> Any:
        return self.value <= value_of(other)

    def __gt__(self, other: Any) -> Any:
        return self.value > value_of(other)

    def __ge__(self, other: Any) -> Any:
        return self.value >= value_of(other)


def _operator(name: str, *, reverse: bool = False) -> Callable[..., Any]:
    def operate(self: Variable, other: Any) -> Any:
        return self.tape.traced.xp._call(name, self, other)

    def operate_reversed(self: Variable, other: Any) -> Any:
        return self.tape.traced.xp._call(name, other, self)

    return operate_reversed if reverse else operate


for _symbol, _function in {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "pow": "pow",
    "matmul": "matmul",
}.items():
    setattr(Variable, f"__{_symbol}__", _operator(_function))
    setattr(Variable, f"__r{_symbol}__", _operator(_function, reverse=True))


class TapeNamespace:
    """The array API namespace of variables: the library's own, with differentiable functions recorded."""

    def __init__(self, xp: Any) -> None:
        self._xp = xp

    def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
        value, vjps = rules.RULES[name](self._xp, *[_value_of_all(x) for x in arguments], **options)
        first = arguments[0]
        if len(vjps) == 1 and isinstance(first, Variable):  # most functions
            return first.tape.variable(value, [(first.index, vjps[0])])
        return record(value, zip(arguments[0] if name in rules.OF_LISTS else arguments, vjps, strict=False))

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._xp, name)
        if not callable(function) or isinstance(function, (type, ModuleType)):
            return function

        has_rule, is_constant = name in rules.RULES, name in rules.CONSTANTS

        def call(*arguments: Any, **options: Any) -> Any:
            if not _any_variable(arguments) and not (options and _any_variable(options.values())):
                return function(*arguments, **options)
            if has_rule:
                return self._call(name, *arguments, **options)
            if is_constant:
                return function(*map(_value_of_all, arguments), **{k: value_of(v) for k, v in options.items()})
            raise TypeError(
                f"value_and_grad: {name} has no gradient rule without torch or JAX; functions with one: "
                f"{', '.join(sorted(rules.RULES))}"
            )

        self.__dict__[name] = call  # found without this method from now on
        return call


def _value_of_all(x: Any) -> Any:
    if isinstance(x, Variable):
        return x.value
    return type(x)(map(value_of, x)) if isinstance(x, (list, tuple)) else x


def _any_variable(arguments: Iterable[Any]) -> bool:
    # A loop, since a generator costs more to make than the few arguments of a call to look at.
    for x in arguments:  # noqa: SIM110
        if isinstance(x, Variable) or (isinstance(x, (list, tuple)) and _any_variable(x)):
            return True
    return False


class TapeKernels:
    """The kernels of a library as variables see them.

    A building block is recorded with its rule, a shim runs in the portable form on variables themselves, and a constant
    is computed on the plain arrays.
    """

    def __init__(self, kernels: Any, xp: Any, traced_xp: TapeNamespace) -> None:
        self._kernels, self._xp, self._traced_xp = kernels, xp, traced_xp

    def __getattr__(self, name: str) -> Any:
        if hasattr(self._kernels, f"{name}_rule"):
            found = self._block(name)
        elif name in generic.CONSTANTS:
            found = self._constant(name)
        elif name in generic.SHIMS:
            found = self._shim(name)
        else:
            raise AttributeError(f"the kernel {name} is neither a building block with a rule, a shim nor a constant")
        self.__dict__[name] = found
        return found

    def _block(self, name: str) -> Callable[..., Any]:
        kernel, with_rule = getattr(self._kernels, name), getattr(self._kernels, f"{name}_rule")

        def block(_: Any, x: Any, *arguments: Any) -> Any:
            if _any_variable(arguments):
                # The rule leads back to the first argument only; the portable form is differentiable in all of them.
                return getattr(generic.KERNELS, name)(self._traced_xp, x, *arguments)
            if not isinstance(x, Variable):
                return kernel(self._xp, x, *arguments)
            value, vjp = with_rule(self._xp, x.value, *arguments)
            return x.tape.variable(value, [(x.index, vjp)])

        return block

    def _constant(self, name: str) -> Callable[..., Any]:
        kernel, xp, traced_xp = getattr(self._kernels, name), self._xp, self._traced_xp

        def constant(*arguments: Any) -> Any:
            return kernel(*[xp if x is traced_xp else x.value if isinstance(x, Variable) else x for x in arguments])

        return constant

    def _shim(self, name: str) -> Callable[..., Any]:
        kernel, portable = getattr(self._kernels, name), getattr(generic.KERNELS, name)

        def shim(_: Any, *arguments: Any) -> Any:
            if _any_variable(arguments):
                return portable(self._traced_xp, *arguments)
            return kernel(self._xp, *arguments)

        return shim

    def whole(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    def as_array(self, x: Any) -> Any:
        return x if isinstance(x, Variable) else self._kernels.as_array(x)


_TRACED: dict[tuple[str, Any], Library] = {}


def _traced(library: Library) -> Library:
    """Return a library as variables see it."""
    found = _TRACED.get((library.name, library.xp))
    if found is None:
        xp = TapeNamespace(library.xp)
        found = Library(library.name, xp, TapeKernels(library.kernels, library.xp, xp))
        _TRACED[library.name, library.xp] = found
    return found
