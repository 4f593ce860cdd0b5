"""Diffusion: read `process` (the mathematics), `unet` (the network), `ddpm` (the family), then `dit` (transformer)."""
