"""What each library does in its own way: the differentiable building blocks of the losses, and what sorts or selects.

`generic.py` is the meaning of every kernel, in the array API, and works for any library. `numpy.py`, `torch.py`,
`jax.py` and `cupy.py` each hold the same names where their library has a faster way and take the rest from `generic`.
Kernels get clean shapes: scores `(N, C, *S)` with the classes on axis 1, labels and masks `(N, *S)`; they know neither
losses nor error texts. Those under "constants" in `generic.py` are constants to differentiation.
"""
