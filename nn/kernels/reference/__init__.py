"""The simple twins of the kernels: plain NumPy that says what is computed, in as few lines as it takes."""
