"""The networks of seven families once more in PyTorch, layer for layer the same: what Inkling is measured against.

Only this folder and the parity tests import torch.  Reading order: `layers.py` (how a layer of ours becomes one of
PyTorch's, with its weights), `blocks.py`, one file per family, `check.py` (loss and every gradient are the same),
`player.py` (the training step and the sampler that are timed).
"""
