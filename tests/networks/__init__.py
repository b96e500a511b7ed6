"""Public architectures against plain float64 autograd: `python -m tests.networks`."""
