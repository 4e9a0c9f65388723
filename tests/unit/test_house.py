"""Rules of the house that no linter at hand can check."""

import ast
from pathlib import Path

import mllmrisk

PACKAGE = Path(mllmrisk.__file__).parent

#: The only modules that speak with the compiled core.
DOORS = {"images.py", "features.py", "perturb.py", "metrics.py", "transform.py"}

#: Heavy packages, and the leaf modules that may import them at the top.
HEAVY = {
    "torch",
    "ray",
    "fsspec",
    "diffusers",
    "transformers",
    "onnxruntime",
    "onnx",
    "openai",
    "tenacity",
    "rapidocr",
    "accelerate",
    "safetensors",
    "tokenizers",
    "timm",
    "peft",
    "httpx",
    "sklearn",
    "pandas",
    "polars",
    "pyarrow",
}
LEAVES = {
    "detectors/architectures/aide.py": {"timm", "torch"},
    "detectors/architectures/clip_linear.py": {"torch"},
    "detectors/architectures/clip_tower.py": {"torch"},
    "detectors/architectures/drct.py": {"torch"},
    "detectors/architectures/npr.py": {"torch"},
    "detectors/architectures/pipelines.py": {"torch"},
    "detectors/architectures/residual.py": {"torch"},
    "detectors/architectures/spai.py": {"timm", "torch"},
    "detectors/architectures/timm_vit.py": {"timm", "torch"},
    "detectors/architectures/transformers_classifier.py": {"torch", "transformers"},
    "detectors/finetuning/loop.py": {"torch"},
    "detectors/finetuning/networks.py": {"torch"},
    "detectors/finetuning/ship.py": {"torch"},
    "detectors/fitting.py": {"sklearn"},
    "detectors/torch_onnx.py": {"torch"},
    "micro/card.py": {"torch", "transformers"},
    "micro/classifier.py": {"torch"},
    "micro/clip.py": {"torch", "transformers"},
    "micro/diffusion.py": {"torch", "diffusers", "transformers"},
    "micro/fitting.py": {"torch"},
    "micro/heads.py": {"torch", "transformers"},
    "micro/measure.py": {"torch", "diffusers", "transformers"},
    "micro/mllm.py": {"torch", "transformers"},
    "micro/readers.py": {"torch"},
    "micro/ship.py": {"torch"},
    "micro/vae.py": {"torch", "diffusers"},
    "micro/vq.py": {"torch", "transformers"},
    "micro/words.py": {"tokenizers", "torch", "transformers"},
    "torch/datasets.py": {"torch"},
    "torch/recipe.py": {"torch"},
}


def modules() -> list[tuple[str, ast.Module]]:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 50
    return [(str(f.relative_to(PACKAGE)), ast.parse(f.read_text(encoding="utf-8"))) for f in files]


def imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {f"{node.module}.{alias.name}" for alias in node.names}
    return set()


def test_five_modules_speak_with_the_core():
    found = {
        name
        for name, tree in modules()
        for node in ast.walk(tree)
        for what in imported(node)
        if "mllmrisk._core" in what
    }
    assert found == DOORS


def test_heavy_packages_are_imported_where_they_are_used():
    for name, tree in modules():
        top = [child for statement in tree.body for child in ast.walk(statement) if not _inside_function(statement)]
        for node in top:
            roots = {what.split(".")[0] for what in imported(node)}
            assert roots & HEAVY <= LEAVES.get(name, set()), f"{name} imports {roots & HEAVY} at the top"


def _inside_function(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.FunctionDef | ast.ClassDef) or (
        isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test)
    )


def test_no_file_grows_past_reading():
    reasons = dict.fromkeys(("metrics.py", "images.py"), "one flat public API, mostly docstrings")
    for name, _ in modules():
        lines = len((PACKAGE / name).read_text(encoding="utf-8").splitlines())
        assert lines <= 400 or name in reasons, f"{name} has {lines} lines"
