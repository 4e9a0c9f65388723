"""A worker for VILA-U (mit-han-lab/vila-u, MIT; weights mit-han-lab/vila-u-7b-256).

Written against the repository at 096623c (January 2025): `vila_u.load` and `model.generate_image_content`. It was read,
not run, here: it needs a checkout as working folder, an environment of its own in which the repository's
`environment_setup.sh` has overwritten files of transformers 4.36.2 (Python 3.10, torch 2.3), the weights in a folder,
and a GPU. Try it with `mllmrisk doctor --worker vila-u` before a run.

256 x 256, classifier-free guidance 3.0 (the repository's default). Its sampling (temperature 1, top-p 0.96, top-k 900)
is fixed in its code and draws from torch's global generator, which is seeded before each image; so images are made one
by one, since all of a batch would share a seed. Its values are cut to whole numbers as its own script does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mllmrisk_worker as base

DEFAULTS = {"model": base.REQUIRED, "cfg": 3.0}
#: In the repository's code, not to be set.
FIXED = {"temperature": 1.0, "top_p": 0.96, "top_k": 900, "width": 256, "height": 256}


class VilaU:
    """Draws through `generate_image_content`."""

    def __init__(self, arguments: dict[str, Any], device: str) -> None:
        self.settings = base.settings(arguments, DEFAULTS)
        checkout = base.repository("vila_u/__init__.py", "https://github.com/mit-han-lab/vila-u")
        folder = Path(self.settings["model"]).expanduser()
        if not folder.is_dir():
            raise base.UnfitError(f"no folder {folder}: download mit-han-lab/vila-u-7b-256 into it")
        base.one_gpu(device)
        base.need_gpu()
        import vila_u  # the checkout's: it stands before this folder on the path

        self.model = vila_u.load(str(folder))
        self.hello = {
            "name": "vila_u/1",
            "model": "mit-han-lab/" + folder.name,
            "revision": base.revision(str(folder)),
            "device": "cuda",
            "dtype": str(next(self.model.parameters()).dtype).replace("torch.", ""),
            "versions": dict(base.versions("torch", "transformers", "flash_attn"), repository=base.commit(checkout)),
            "arguments": dict(FIXED, **self.settings),
            "batch": 1,
        }

    def draw(self, prompt: str, seed: int) -> Any:
        """One image, (256, 256, 3) uint8."""
        base.seed_all(seed)
        found = self.model.generate_image_content(prompt, self.settings["cfg"], 1)
        return found[0].permute(1, 2, 0).cpu().numpy().astype("uint8")


if __name__ == "__main__":
    base.serve(VilaU)
