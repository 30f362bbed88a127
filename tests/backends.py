"""The array libraries as the tests see them: arrays in, arrays out, and how a loss is run."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any, ClassVar

import ml_dtypes  # noqa: F401  (registers bfloat16 with NumPy)
import numpy as np

import arrayloss as al


class Backend:
    """One library, or one way of running it."""

    name = "numpy"
    #: What must be installed.
    needs = "numpy"
    #: Whether a bad label raises (else it makes the loss NaN).
    reads = True
    #: Whether every new shape or option is compiled: such a backend is tried on fewer parameters of the same kind.
    compiles = False

    def available(self) -> str | None:
        """Return why the backend cannot run here, or None."""
        return None if importlib.util.find_spec(self.needs) else f"{self.needs} is not installed"

    def array(self, x: np.ndarray) -> Any:
        return x

    def numpy(self, x: Any) -> np.ndarray:
        return np.asarray(x)

    def is_array(self, x: Any) -> bool:
        return isinstance(x, np.ndarray)

    def dtypes(self) -> list[str]:
        return ["float64", "float32", "float16", "bfloat16"]

    def value(self, loss: Callable[..., Any], logits: Any, target: Any, **arrays: Any) -> Any:
        return loss(logits, target, **arrays)

    def value_and_grad(self, loss: Callable[..., Any], logits: Any, target: Any, **arrays: Any) -> Any:
        return al.value_and_grad(loss)(logits, target, **arrays)


class Strict(Backend):
    """array-api-strict with its strictest flags: the proof that nothing beyond the standard is used."""

    name, needs, reads = "strict", "array_api_strict", False
    device = "CPU_DEVICE"

    def array(self, x: np.ndarray) -> Any:
        import array_api_strict as strict

        strict.set_array_api_strict_flags(boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=())
        return strict.asarray(x, device=strict.Device(self.device))

    def numpy(self, x: Any) -> np.ndarray:
        import array_api_strict as strict

        return np.asarray(
            strict.to_device(x, strict.Device("CPU_DEVICE")) if hasattr(strict, "to_device") else x._array
        )

    def is_array(self, x: Any) -> bool:
        return type(x).__module__.startswith("array_api_strict") and str(x.device) == str(self._device())

    def _device(self) -> Any:
        import array_api_strict as strict

        return strict.Device(self.device)

    def dtypes(self) -> list[str]:
        return ["float64", "float32"]


class StrictDevice1(Strict):
    """Arrays on a second device: what is made on the way must be made there."""

    name, device = "strict-device1", "device1"


class Torch(Backend):
    name, needs = "torch", "torch"

    def array(self, x: np.ndarray) -> Any:
        import torch

        if x.dtype == np.dtype("bfloat16"):
            return torch.tensor(x.astype(np.float32)).to(torch.bfloat16)
        return torch.tensor(x)

    def numpy(self, x: Any) -> np.ndarray:
        import torch

        if x.dtype == torch.bfloat16:
            return x.detach().to(torch.float32).numpy().astype("bfloat16")
        return x.detach().numpy()

    def is_array(self, x: Any) -> bool:
        import torch

        return isinstance(x, torch.Tensor) and x.device.type == "cpu"


@cache
def _torch_compiled(loss: Callable[..., Any]) -> Callable[..., Any]:
    """Return a loss compiled by torch, the same one for an equal loss, as `_jitted` does for JAX."""
    import torch

    def run(*args: Any, **kwargs: Any) -> Any:
        return loss(*args, **kwargs)

    # torch keeps what it has compiled with the code of a function, and looks through it at each call.
    code = run.__code__.replace(co_name=f"run_{id(run)}")
    return torch.compile(FunctionType(code, globals(), closure=run.__closure__), fullgraph=True, backend="eager")


class TorchCompiled(Torch):
    """torch.compile without a graph break; the graph is run as captured, as what is generated from it is torch's.

    Gradients are those of what is compiled; `value_and_grad` itself is compiled in `test_transforms.py`.
    """

    name, reads, compiles = "torch-compiled", False, True

    def _run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        import torch

        # A graph for each shape, of which a loss may have many.
        config = {"automatic_dynamic_shapes": False, "recompile_limit": 1000, "accumulated_recompile_limit": 100000}
        with warnings.catch_warnings(), torch._dynamo.config.patch(**config):
            warnings.simplefilter("ignore")  # torch's own, about its tracing
            return function(*args, **kwargs)

    def value(self, loss: Callable[..., Any], logits: Any, target: Any, **arrays: Any) -> Any:
        return self._run(_torch_compiled(loss), logits, target, **arrays)

    def value_and_grad(self, loss: Callable[..., Any], logits: Any, target: Any, **arrays: Any) -> Any:
        return self._run(al.value_and_grad(_torch_compiled(loss)), logits, target, **arrays)


class Jax(Backend):
    name, needs, compiles = "jax", "jax", True

    def array(self, x: np.ndarray) -> Any:
        import jax.numpy as jnp

        return jnp.asarray(x)

    def is_array(self, x: Any) -> bool:
        import jax

        return isinstance(x, jax.Array)


@cache
def _jitted(loss: Callable[..., Any], gradient: bool, fast: bool) -> Callable[..., Any]:
    """Return a loss compiled by JAX, the same one for an equal loss: what was traced for some shapes is traced once.

    Not for a test that changes something within the package: what was compiled before would not notice.
    """
    import jax

    return jax.jit(al.value_and_grad(loss) if gradient else loss)


class JaxJitted(Jax):
    name, reads = "jax-jitted", False
    #: Losses, whether with a gradient, and the arrays for which they were compiled well.
    _well: ClassVar[set[Any]] = set()

    def _run(self, gradient: bool, loss: Callable[..., Any], *given: Any, **arrays: Any) -> Any:
        import jax

        leaves, structure = jax.tree.flatten((given, arrays))
        program = loss, gradient, structure, *((np.shape(x), jax.numpy.result_type(x)) for x in leaves)
        # What was compiled fast is not what a test of well compiled programs wants; the other way round it is.
        if not jax.config.read("jax_disable_most_optimizations"):
            self._well.add(program)
        return _jitted(loss, gradient, program not in self._well)(*given, **arrays)

    def value(self, loss: Callable[..., Any], logits: Any, target: Any, **arrays: Any) -> Any:
        return self._run(False, loss, logits, target, **arrays)

    def value_and_grad(self, loss: Callable[..., Any], logits: Any, target: Any, **arrays: Any) -> Any:
        return self._run(True, loss, logits, target, **arrays)


class Cupy(Backend):
    name, needs, reads = "cupy", "cupy", False

    def available(self) -> str | None:
        if (missing := super().available()) is not None:
            return missing
        import cupy

        try:
            return None if cupy.cuda.runtime.getDeviceCount() else "CuPy sees no GPU"
        except cupy.cuda.runtime.CUDARuntimeError as error:
            return f"CuPy sees no GPU: {error}"

    def array(self, x: np.ndarray) -> Any:
        import cupy

        return cupy.asarray(x)

    def numpy(self, x: Any) -> np.ndarray:
        import cupy

        return cupy.asnumpy(x)

    def is_array(self, x: Any) -> bool:
        import cupy

        return isinstance(x, cupy.ndarray)

    def dtypes(self) -> list[str]:
        return ["float64", "float32", "float16"]


class TorchCuda(Torch):
    """Tensors on a GPU, where values are never read."""

    name, reads = "torch-cuda", False

    def available(self) -> str | None:
        if (missing := super().available()) is not None:
            return missing
        import torch

        return None if torch.cuda.is_available() else "torch sees no GPU"

    def array(self, x: np.ndarray) -> Any:
        return super().array(x).cuda()

    def numpy(self, x: Any) -> np.ndarray:
        return super().numpy(x.cpu())

    def is_array(self, x: Any) -> bool:
        import torch

        return isinstance(x, torch.Tensor) and x.device.type == "cuda"


BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend(),
        Strict(),
        StrictDevice1(),
        Torch(),
        TorchCompiled(),
        Jax(),
        JaxJitted(),
        Cupy(),
        TorchCuda(),
    )
}
#: Those that need a GPU; the marker `gpu` selects them.
GPU = ("cupy", "torch-cuda")
#: Other ways of running a library already listed: only for tests marked `variants`, where the way matters.
VARIANTS = ("strict-device1", "torch-compiled")
