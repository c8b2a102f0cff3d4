"""Kernels for the CPU backend, equal to XLA's own up to rounding and several times faster."""
