"""Kernels for CPU: rules traced to jaxprs, translated to C++, called through XLA's FFI."""
