"""What Inkling costs and what it achieves, measured: speed, ops, quality, faults.  `python -m bench` lists them."""
import nn  # noqa: F401  (first: it prepares the process before NumPy is imported)
