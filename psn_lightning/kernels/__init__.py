"""Compiled csr engine, for layers that store active weights only. Imports numpy, torch, numba and triton only."""
