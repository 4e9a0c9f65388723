"""The family `finetune`: a torch network trained on real and generated images, and carried away as ONNX.

The way through it: `recipe` reads what a backbone's TOML says, `division` keeps groups whole between fitting,
validation and calibration, `backbones` builds the network, `data` decodes and perturbs images ahead of it, `loop`
trains it and goes on where it stopped, `calibrate` makes probabilities of its logits, `ship` writes the ONNX file and
proves it against torch. `training.train` is all of that in one call.
"""
