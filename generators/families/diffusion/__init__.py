"""Diffusion: read `process` (the mathematics), `unet` (the network), `ddpm` (the family), then `dit` (transformer).

`video` has films, `fewstep` a denoiser that a critic teaches to paint at once.
"""
