"""`arrayloss evaluate`: a loss of a user's own arrays."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import arrayloss
from arrayloss._cli import UserError, one_line
from arrayloss._cli.catalog import call_arrays, find_loss, make_loss, options_of, split_pairs
from arrayloss._cli.libraries import open_backend, wide_dtypes
from arrayloss._cli.plain import plain


def run(args: argparse.Namespace) -> None:
    """Compute the loss, print it, and write its gradient where asked to."""
    loss = make_loss(find_loss(args.loss), args.option)
    files = [read_array(path, "--logits") for path in args.logits]
    target = read_array(args.target, "--target")
    arrays = _call_arrays(loss, args.array)
    backend = open_backend(args.backend)
    with wide_dtypes(backend.name):
        try:
            logits = tuple(backend.asarray(x) for x in files)
            call = arrayloss.value_and_grad(loss) if args.grad else loss
            result = call(
                logits if len(logits) > 1 else logits[0],
                backend.asarray(target),
                **{name: backend.asarray(x) for name, x in arrays.items()},
            )
        except (TypeError, ValueError, OverflowError, MemoryError, RuntimeError) as error:
            # Of the loss, and of libraries that cannot hold such an array, or not so large a one.
            raise UserError(one_line(error)) from error
        value, gradients = result if args.grad else (result, ())
        parts = [backend.to_numpy(part) for part in (value if isinstance(value, tuple) else (value,))]
        gradients = [backend.to_numpy(g) for g in (gradients if isinstance(gradients, tuple) else (gradients,))]
    written = _write(gradients, args.grad) if args.grad else []
    if args.json:
        print(json.dumps(_report(loss, backend.name, parts, written)))
    else:
        print(*parts)


def read_array(path: str, flag: str) -> Any:
    """Return the array in a .npy file, in native byte order."""
    import numpy as np

    try:
        with open(path, "rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise UserError(f"{flag} {path}: {error.strerror or one_line(error)}") from error
    except Exception as error:  # a broken header makes NumPy raise almost anything
        raise UserError(f"{flag} {path}: no .npy file with an array of numbers: {one_line(error)}") from error
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _call_arrays(loss: arrayloss.Loss, texts: list[str]) -> dict[str, Any]:
    taken = call_arrays(type(loss))
    arrays = {}
    for name, path in split_pairs(texts, "--array"):
        if name not in taken:
            raise UserError(f"{type(loss).__name__} takes no array {name!r}, expected {' or '.join(taken) or 'none'}")
        arrays[name] = read_array(path, f"--array {name}")
    return arrays


def _write(gradients: list[Any], path: str) -> list[str]:
    """Write gradients to OUT.npy, OUT.1.npy and so on, and return the names."""
    import numpy as np

    out = Path(path)
    paths = [out, *(out.with_name(f"{out.stem}.{i}{out.suffix}") for i in range(1, len(gradients)))]
    for name, gradient in zip(paths, gradients, strict=True):
        try:
            with open(name, "wb") as file:
                np.lib.format.write_array(file, gradient, allow_pickle=False)
        except OSError as error:
            raise UserError(f"--grad {name}: {error.strerror or one_line(error)}") from error
    return [str(name) for name in paths]


def _report(loss: arrayloss.Loss, backend: str, parts: list[Any], written: list[str]) -> dict[str, Any]:
    values = [plain(part.tolist()) for part in parts]
    return {
        "loss": type(loss).__name__,
        "options": {name: plain(getattr(loss, name)) for name in options_of(type(loss))},
        "backend": backend,
        "value": values[0] if len(values) == 1 else dict(zip(("total", "weight"), values, strict=True)),
        "shape": list(parts[0].shape),
        "dtype": str(parts[0].dtype),
        "gradient": written,
    }
