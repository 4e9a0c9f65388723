import sys, time
from pathlib import Path
import torch

torch.set_num_threads(1)
import importlib

out = Path("build/micro")
out.mkdir(parents=True, exist_ok=True)
for step in sys.argv[1:]:
    t = time.time()
    if step in ("judge", "inspector"):
        from mllmrisk.micro import classifier

        classifier.train(step, out)
    else:
        importlib.import_module("mllmrisk.micro." + step).train(out)
    print(step, time.time() - t, flush=True)
