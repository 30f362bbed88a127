"""NumPy's machine: blocks of positions that stay in the cache, work arrays used again, partition instead of sort."""

from __future__ import annotations

import array_api_compat.numpy

from arrayloss._machines.generic import extended
from arrayloss._machines.numpy import classes, components, entries, facts, places, ranking, regions

LIBRARY = extended("numpy", array_api_compat.numpy, facts, classes, entries, regions, ranking, components, places)
