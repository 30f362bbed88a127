"""JAX's machine: reductions in the form that XLA compiles well, with rules of differentiation that stay cheap.

Rules are forward ones (`custom_jvp`), so that grad, jvp, vmap and hessian all still work.
"""

from arrayloss._machines.generic import extended
from arrayloss._machines.jax import classes, components, entries, facts, places, ranking, regions, windows
from arrayloss._machines.jax.compiled import NAMESPACE

LIBRARY = extended("jax", NAMESPACE, classes, components, entries, facts, places, ranking, regions, windows)
