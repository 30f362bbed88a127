"""How formulas run on each library: a folder for each, in it a file for each topic.

`generic` is the meaning of every kernel, in the array API, and works for any library. `numpy`, `torch`, `jax` and
`cupy` each hold the same names where their library has a faster way, and take the rest from `generic`. Kernels get
clean shapes: scores `(N, C, *S)` with the classes on axis 1, labels and masks `(N, *S)`; they know neither losses nor
error texts.
"""
