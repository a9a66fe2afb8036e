"""Stages of ``benchmarks/gpu.py``."""
