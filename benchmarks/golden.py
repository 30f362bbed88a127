"""Golden values matched, per library and dtype: `python benchmarks/golden.py`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import jax
import test_golden
from backends import BACKENDS

jax.config.update("jax_enable_x64", True)


def main() -> int:
    """Print a line per library and dtype; return 1 where anything differs."""
    missed = 0
    for name in ("numpy", "strict", "torch", "jax"):
        for dtype in ("float64", "float32"):
            backend = BACKENDS[name]
            cases = [c for c in test_golden.MANIFEST if test_golden.applies(c, backend, dtype)]
            failed = []
            for case in cases:
                try:
                    test_golden.compare(case, backend, dtype)
                except Exception as error:  # whatever went wrong, the case did not match
                    failed.append(f"{case['file']}: {type(error).__name__}")
            missed += len(failed)
            print(f"{name:8} {dtype:8} {len(cases) - len(failed):4} / {len(cases)} matched", *failed, sep="\n  ")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
