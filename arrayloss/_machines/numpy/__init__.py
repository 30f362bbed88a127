"""NumPy's machine."""

import array_api_compat.numpy

from arrayloss._machines.generic import extended
from arrayloss._machines.numpy import facts

LIBRARY = extended("numpy", array_api_compat.numpy, facts)
