"""Ours against PyTorch's: the same inputs, forward and backward.  The only tests that need torch."""
