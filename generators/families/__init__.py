"""The ways to make an image: read `regression`, `vae`, `flow/`, `diffusion/`, `gan`, `vaegan`; then `editing`.

In `world/` is what learns from films how to be played.
"""
