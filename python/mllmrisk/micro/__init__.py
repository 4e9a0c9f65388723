"""The training script of the embedded models: `python -m mllmrisk.micro all` makes the weights that the package ships.

Steps, in order: `inspector` and `judge` (classifiers; the inspector only measures), `vae` and `diffusion` (the
Stable-Diffusion-3-style pipeline), `codes`, `vq` and `mllm` (the Janus model with a decoder of its own), `clip`, then
`ship` (the weights' files) and `card` (what they can do, measured).
Each step trains from a seed by a fixed number of optimiser steps, keeps a checkpoint, and goes on where it stood. Both
generators see the same pictures and the same captions. `docs/micro-models.md` tells what came out.
"""
