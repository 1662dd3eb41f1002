"""Kernels for GPU: rules called in the body of a Pallas kernel."""
