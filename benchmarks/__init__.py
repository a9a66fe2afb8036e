"""Benchmarks of single questions; the general one is ``psn-train bench``."""
