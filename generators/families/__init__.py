"""The ways to make an image: read `regression`, `vae`, `flow/`, `diffusion/`, `gan`, `vaegan`; then `editing`."""
