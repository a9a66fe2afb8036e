"""Kernels of the csr storage, compiled by numba on first use and cached."""
