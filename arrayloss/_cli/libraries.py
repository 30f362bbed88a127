"""The array libraries of this machine: what is installed, where it runs, and arrays to and from each."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from arrayloss._cli import UserError, one_line, progress

Array = Any

NAMES = ("numpy", "cupy", "torch", "jax")
_CHECKED = "its calls are checked against CuPy's interface by the tests, not run here"


@dataclass(frozen=True)
class Found:
    """What is known of a library after an attempt to import it."""

    name: str
    installed: bool
    version: str | None
    #: Where it can compute, its default device first; empty where it cannot.
    devices: tuple[str, ...]
    note: str


def find(name: str) -> Found:
    """Look for a library; whatever its import raises becomes part of the answer."""
    progress.show(f"loading {name}")
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a broken installation may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            note = f'not installed: pip install "arrayloss[{name}]"'
            return Found(name, False, None, (), f"{note}; {_CHECKED}" if name == "cupy" else note)
        return Found(name, True, None, (), f"cannot be imported: {type(error).__name__}: {one_line(error)}")
    finally:
        progress.clear()
    version = str(getattr(module, "__version__", "unknown"))
    try:
        devices = _devices(name, module)
    except Exception as error:  # of a driver, a runtime, a plug-in
        if name == "cupy":
            return Found(name, True, version, (), f"no GPU: {_CHECKED}")
        return Found(name, True, version, (), f"finds no device: {one_line(error)}")
    note = "no CUDA device: nothing is run on a GPU" if name in ("torch", "jax") and _on_cpu(devices) else ""
    return Found(name, True, version, devices, note)


def _devices(name: str, module: Any) -> tuple[str, ...]:
    match name:
        case "cupy":
            count = module.cuda.runtime.getDeviceCount()
            names = [module.cuda.runtime.getDeviceProperties(i)["name"].decode() for i in range(count)]
            return tuple(f"cuda:{i} {name}" for i, name in enumerate(names))
        case "torch":
            gpus = range(module.cuda.device_count()) if module.cuda.is_available() else ()
            return (*(f"cuda:{i} {module.cuda.get_device_name(i)}" for i in gpus), "cpu")
        case "jax":
            devices = [(f"{d.platform}:{d.id}", d.device_kind) for d in module.devices()]
            return tuple(place if kind == "cpu" else f"{place} {kind}" for place, kind in devices)
        case _:
            return ("cpu",)


def _on_cpu(devices: tuple[str, ...]) -> bool:
    return all(device.startswith("cpu") for device in devices)


@dataclass(frozen=True)
class Backend:
    """A library that runs here, and how arrays get there and back."""

    name: str
    version: str
    device: str
    #: From NumPy to the default device of the library.
    asarray: Callable[[Any], Array]
    #: To NumPy; waits until the array has been computed.
    to_numpy: Callable[[Array], Any]
    #: The compiled form of a function of arrays where the library has one.
    compiled: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda function: function


def open_backend(name: str) -> Backend:
    """Return a library ready to compute.

    Raises
    ------
    UserError
        It is not installed, or finds no device.
    """
    found = find(name)
    if found.version is None or not found.devices:
        raise UserError(f"{name}{f' {found.version}' if found.version else ''}: {found.note}")
    version, device = found.version, found.devices[0]
    import numpy as np

    match name:
        case "torch":
            import torch

            place = torch.device(device.partition(" ")[0])
            return Backend(
                name, version, device, lambda x: torch.as_tensor(x, device=place), lambda x: x.detach().cpu().numpy()
            )
        case "jax":
            import jax

            def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
                jitted = jax.jit(function)

                def call(*arguments: Any) -> Any:
                    # On a GPU the default rounds the factors of a float32 product to 10 bits.
                    with jax.default_matmul_precision("highest"):
                        return jitted(*arguments)

                return call

            return Backend(name, version, device, jax.numpy.asarray, np.asarray, compiled)
        case "cupy":
            import cupy

            return Backend(name, version, device, cupy.asarray, cupy.asnumpy)
        case _:
            return Backend(name, version, device, np.asarray, np.asarray)


def open_all() -> tuple[list[Backend], dict[str, str]]:
    """Return every library that can compute here, NumPy first, and of the others by name why they cannot."""
    backends, missing = [], {}
    for name in NAMES:
        try:
            backends.append(open_backend(name))
        except UserError as error:
            missing[name] = str(error)
    return backends, missing


@contextmanager
def wide_dtypes(name: str) -> Iterator[None]:
    """Let JAX keep 64-bit arrays as they are; without this it makes them 32-bit."""
    if name != "jax":
        yield
        return
    import jax

    config: Any = jax.config
    before = config.jax_enable_x64
    config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        config.update("jax_enable_x64", before)
