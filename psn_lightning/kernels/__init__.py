"""Compiled csr engine: numba kernels for layers that store active weights only. Imports numpy, torch and numba only."""
