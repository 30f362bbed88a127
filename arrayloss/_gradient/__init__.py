"""`value_and_grad`: the gradient of a loss on every library, native where there is autodiff, by the tape elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, overload

from arrayloss._core.library import common_library
from arrayloss._core.loss import Loss
from arrayloss._gradient.native import jax_value_and_grad, torch_value_and_grad
from arrayloss._gradient.recorded import tape_value_and_grad
from arrayloss._machines.namespace import FLOATS, dtype_name

A = TypeVar("A")
B = TypeVar("B")


class ValueAndGrad(Protocol):
    """What `value_and_grad` returns: called like the loss, it gives the value and the gradient."""

    @overload
    def __call__(self, logits: tuple[A, B], target: Any, **arrays: Any) -> tuple[A, tuple[A, B]]: ...
    @overload
    def __call__(self, logits: A, target: Any, **arrays: Any) -> tuple[A, A]: ...


def value_and_grad(loss: Callable[..., Any]) -> ValueAndGrad:
    """Return a function that gives the value of a loss and its gradient with respect to the logits.

    Parameters
    ----------
    loss : callable
        A loss object, a loss function, or any function of ``(logits, target, ...)`` built from them with the
        operators and array API functions of its library, that returns an array or, for ``reduction="parts"``, a tuple
        (total, weight).

    Returns
    -------
    callable
        ``f(logits, target, **arrays) -> (value, gradient)``. The gradient has the shape, dtype, library and device of
        the logits; it is a tuple where the logits are a tuple. Of a value that is an array (``reduction="none"``) it
        is the gradient of the sum, of the two parts of a mean that of the total.

    Raises
    ------
    TypeError
        The logits are no array (or tuple of arrays) of one library; or, without native autodiff, the loss uses a
        function that has no gradient rule here.

    Notes
    -----
    torch and JAX differentiate by their own autodiff, so the result works under ``torch.compile``, ``torch.func``,
    ``jax.jit`` and ``jax.vmap``. NumPy, CuPy and every other library are differentiated by arrayloss itself, exactly,
    in one backward pass, with neither torch nor JAX installed. The arrays of the caller are never changed.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayloss as al
    >>> value, gradient = al.value_and_grad(al.CrossEntropyLoss())(np.zeros((1, 2)), np.array([1]))
    >>> print(gradient)
    [[ 0.5 -0.5]]
    """

    def value_and_gradient(logits: Any, target: Any, *more: Any, **arrays: Any) -> Any:
        if more:
            raise TypeError(_by_keyword(loss, 2 + len(more)))
        several = isinstance(logits, tuple)
        parts = logits if several else (logits,)
        named = {f"logits[{i}]": x for i, x in enumerate(parts)} if several else {"logits": logits}
        library = common_library("value_and_grad", named)
        for name, x in named.items():
            if dtype_name(x) not in FLOATS:
                raise TypeError(f"value_and_grad: {name} has dtype {dtype_name(x)}, expected a real floating dtype")

        def call(*parts: Any) -> Any:
            return loss(parts if several else parts[0], target, **arrays)

        match library.name:
            case "torch":
                value, gradients = torch_value_and_grad(call, parts)
            case "jax":
                value, gradients = jax_value_and_grad(call, parts)
            case _:
                value, gradients = tape_value_and_grad(call, parts, library)
        return value, gradients if several else gradients[0]

    return value_and_gradient


def _by_keyword(loss: Callable[..., Any], count: int) -> str:
    """Return what is wrong with more than two arguments by position, naming those that a loss takes by keyword."""
    import inspect

    function, bound = (type(loss).function, vars(loss)) if isinstance(loss, Loss) else (loss, {})
    try:
        parameters = list(inspect.signature(function).parameters.values())[2:]
    except (TypeError, ValueError):  # of something without a signature to read
        parameters = []
    named = [
        f"{p.name}=..." for p in parameters if p.name not in bound and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    return (
        f"value_and_grad: {count} arguments by position, expected 2 (logits, target); pass what follows by keyword"
        + (f": {', '.join(named)}" if named else "")
        + ("; options belong to the loss object" if bound and not named else "")
    )
