"""The compiled csr engine: numba kernels over tiles of connections; knows numpy, torch and numba only."""
