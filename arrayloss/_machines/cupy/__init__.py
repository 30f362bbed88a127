"""CuPy's machine: the portable one, with what is cheap to have."""

from __future__ import annotations

import array_api_compat.cupy

from arrayloss._machines.cupy import entries, facts, ranking
from arrayloss._machines.generic import extended

LIBRARY = extended("cupy", array_api_compat.cupy, entries, facts, ranking)
