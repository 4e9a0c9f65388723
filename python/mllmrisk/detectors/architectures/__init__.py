"""The networks behind published detectors: built from a config, filled strictly from their authors' files.

One :class:`Architecture` per detector. The names of parameters are the authors' own wherever a module is written here;
where published files name the same tensors otherwise (OpenAI's, open_clip's and transformers' CLIP are three spellings
of one tower), `state` renames them. Nothing heavy is imported until a name is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mllmrisk.registry import Registry

#: Name → tensor.
State = Mapping[str, Any]


class Architecture(NamedTuple):
    """How the network of one detector is made.

    Attributes:
        config: the published sizes; a smaller one of the same type gives a small twin of the same structure. Its
            `image` is the side of the input.
        module: config → `torch.nn.Module` with random weights. It maps the inputs that the detector's TOML describes
            to raw logits.
        state: the published file's tensors, the encoder's (empty where `encoder` is false) and the config → the state
            dict of that module, complete.
        encoder: whether the published file holds a head only, so that the frozen encoder comes from a second place.
        where_encoder: where that encoder is published; "" if there is none.
        resized: the published file's tensors and a config → the config with the sizes that differ between files of one
            author (224 or 384 px); the same config elsewhere.
    """

    config: Any
    module: Callable[[Any], Any]
    state: Callable[[State, State, Any], dict[str, Any]]
    encoder: bool = False
    where_encoder: str = ""
    resized: Callable[[State, Any], Any] = lambda _, config: config


_HERE = "mllmrisk.detectors.architectures"

ARCHITECTURES: Registry[Architecture] = Registry(
    "architecture",
    "mllmrisk.architectures",
    {
        "aide": f"{_HERE}.aide:AIDE",
        "c2p-clip": f"{_HERE}.clip_linear:C2P_CLIP",
        "clipdet": f"{_HERE}.clip_linear:CLIPDET",
        "community-forensics": f"{_HERE}.timm_vit:COMMUNITY_FORENSICS",
        "dda": f"{_HERE}.timm_vit:DDA",
        "drct-clip": f"{_HERE}.drct:DRCT_CLIP",
        "drct-convnext": f"{_HERE}.drct:DRCT_CONVNEXT",
        "npr": f"{_HERE}.npr:NPR",
        "spai": f"{_HERE}.spai:SPAI",
        "univfd": f"{_HERE}.clip_linear:UNIVFD",
    },
    dict.fromkeys(("c2p-clip", "clipdet", "drct-clip", "npr", "univfd"), "gen")
    | dict.fromkeys(("aide", "community-forensics", "dda", "drct-convnext", "spai"), "finetune"),
)

#: Published detectors that are an image classifier of transformers, as `save_pretrained` writes it.
CLASSIFIERS = frozenset({"aiornot-siglip2"})
