"""torch's machine: native operations that autograd knows and, on the host, NumPy's machine on their memory."""

from __future__ import annotations

import array_api_compat.torch

from arrayloss._machines.generic import extended
from arrayloss._machines.torch import classes, components, entries, facts, places, ranking, regions, windows

LIBRARY = extended(
    "torch", array_api_compat.torch, facts, classes, entries, regions, ranking, components, windows, places
)
