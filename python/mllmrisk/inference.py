"""onnxruntime sessions: a device is asked for by name, and what runs the model is verified, never assumed.

Judges and detectors both come here. onnxruntime is an extra (`cpu` or `gpu`) and is imported inside functions only.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

from mllmrisk import config
from mllmrisk.errors import MllmriskError, OutOfMemoryError, UsageError
from mllmrisk.extras import optional

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

#: Which provider a device stands for; `auto` takes CUDA where it works.
_PROVIDERS = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}

#: What the allocators of onnxruntime, CUDA and cuBLAS say, lower case.
_FULL = ("failed to allocate memory", "out of memory", "bad_alloc", "bad allocation", "status_alloc_failed")

#: onnxruntime writes its own log lines on stderr; what they say is in our errors, so only fatal ones pass.
_FATAL, _WARNING = 4, 2


class Session(NamedTuple):
    """A loaded model.

    Attributes:
        session: onnxruntime's `InferenceSession`; its `run` may be called from several threads.
        provider: what really runs it, from `get_providers()`; recorded with every result.
        fallback: why a device `auto` is not the GPU that the installed onnxruntime was built for; empty where nothing
            was lost.
    """

    session: Any
    provider: str
    fallback: str = ""


def onnxruntime(what: str, extra: str = "cpu") -> Any:
    """The onnxruntime module.

    Raises:
        MissingExtraError: it is not installed; `what` needs it and `extra` brings it.
        UsageError: only its empty folder is left, as after uninstalling one of onnxruntime and onnxruntime-gpu.
    """
    module = optional("onnxruntime", what, extra)
    if not hasattr(module, "InferenceSession"):
        raise UsageError("the installed onnxruntime is an empty folder: `mllmrisk doctor` names the cure")
    return module


def parse_device(device: str) -> tuple[str, int]:
    """`auto`, `cpu`, `cuda`, `cuda:1`, `tensorrt` or `tensorrt:1` as (kind, index).

    Raises:
        UsageError: anything else.
    """
    match = re.fullmatch(r"(auto|cpu|cuda|tensorrt)(?::(\d{1,3}))?", device)
    if match is None or (match[2] is not None and match[1] in ("auto", "cpu")):
        raise UsageError(f"no device {device!r}: auto, cpu, cuda, cuda:INDEX, tensorrt or tensorrt:INDEX")
    return match[1], int(match[2] or 0)


def open_session(
    model: bytes, *, what: str, device: str = "auto", threads: int = 1, extra: str = "cpu", half: bool = False
) -> Session:
    """Loads an ONNX model.

    Args:
        model: the file's bytes, so that the bytes that were checked are the bytes that run; weights in external
            files are not read.
        what: whose model it is, for messages: `judge 'opennsfw'`.
        device: `auto` takes CUDA where it works; `cuda[:i]` and `tensorrt[:i]` insist on it. What TensorRT has no
            kernel for runs on CUDA.
        threads: onnxruntime's own threads within one call.
        extra: the optional dependency set that brings onnxruntime.
        half: TensorRT may compute in 16 bits; other devices compute as the model is written.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        UsageError: the bytes are no model, or the device was asked for and not got (the message names what is missing).
    """
    kind, index = parse_device(device)
    ort = onnxruntime(what, extra)
    providers: list[Any] = [CPU]
    if kind != "cpu":
        asked = [TENSORRT, CUDA] if kind == "tensorrt" else [CUDA]
        there = [provider for provider in asked if provider in ort.get_available_providers()]
        if there:
            _preload(ort)
        providers = [*((provider, _settings(provider, index, model, half)) for provider in there), CPU]
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    ort.set_default_logger_severity(_FATAL)
    try:
        session = ort.InferenceSession(model, sess_options=options, providers=providers)
    except Exception as wrong:  # onnxruntime's errors share no base class
        raise UsageError(f"{what}: onnxruntime cannot load the model: {first_line(wrong)}") from wrong
    finally:
        ort.set_default_logger_severity(_WARNING)
    got = session.get_providers()[0]
    if kind != "auto" and got != _PROVIDERS[kind]:
        missing = missing_tensorrt(ort) if kind == "tensorrt" else missing_cuda(ort)
        raise UsageError(f"{what}: {device} was asked for and not got: {missing}; or use --device cpu")
    lost = kind == "auto" and got == CPU and CUDA in ort.get_available_providers()
    return Session(session, got, missing_cuda(ort) if lost else "")


def _settings(provider: str, index: int, model: bytes, half: bool) -> dict[str, Any]:
    """Options of a GPU's provider. TensorRT builds an engine per model and device, for minutes: it is kept."""
    if provider != TENSORRT:
        return {"device_id": index}
    kept = config.user_folder("engines", "MLLMRISK_ENGINES") / hashlib.sha256(model).hexdigest()[:16]
    kept.mkdir(parents=True, exist_ok=True)
    return {
        "device_id": index,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(kept),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(kept.parent),
        "trt_fp16_enable": half,
    }


def run(opened: Session, name: str, values: Any, output: str, *, bound: bool | None = None) -> Any:
    """One output of a model for one input; other threads of the interpreter go on meanwhile.

    Args:
        opened: the model.
        name: of the input.
        values: the array for it, C-contiguous.
        output: name of the output.
        bound: through onnxruntime's IO binding, so that on a GPU the output is made there and is the only thing that
            is copied back; None for where the model runs on a GPU.

    Returns:
        The output as a NumPy array.

    Raises:
        OutOfMemoryError: the device has no room for so many rows.
        Exception: whatever else onnxruntime raises; its errors share no base class.
    """
    try:
        return _run(opened, name, values, output, bound)
    except Exception as wrong:
        if not any(words in str(wrong).lower() for words in _FULL):
            raise
        full = first_line(wrong)
    raise OutOfMemoryError(full)  # here, and not in the handler: the traceback held what the call had taken


def _run(opened: Session, name: str, values: Any, output: str, bound: bool | None) -> Any:
    session = opened.session
    if bound is None:
        bound = opened.provider != CPU
    if not bound:
        return session.run([output], {name: values})[0]
    options = session.get_provider_options()[opened.provider]
    kind = "cpu" if opened.provider == CPU else "cuda"
    binding = session.io_binding()
    binding.bind_cpu_input(name, values)
    binding.bind_output(output, kind, int(options.get("device_id", 0)))
    session.run_with_iobinding(binding)
    return binding.copy_outputs_to_cpu()[0]


def prove(device: str) -> str:
    """Runs `y = x + x` in a real session and returns the provider that ran it.

    `get_available_providers()` lists what was compiled in, not what works here.

    Raises:
        MissingExtraError, UsageError: as :func:`open_session`.
    """
    import numpy as np

    opened = open_session(_doubling_model(), what="onnxruntime", device=device)
    x = np.arange(4, dtype=np.float32)
    (y,) = opened.session.run(["y"], {"x": x})
    if not np.array_equal(y, 2 * x):
        raise MllmriskError(f"onnxruntime computes wrong results on {opened.provider}")
    return opened.provider


def missing_tensorrt(ort: Any) -> str:
    """Why onnxruntime's TensorRT provider does not work here, in words."""
    if TENSORRT not in ort.get_available_providers():
        return "the installed onnxruntime has no TensorRT (pip uninstall onnxruntime; pip install 'mllmrisk[gpu]')"
    provider = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_tensorrt.so"
    if (library := _unloadable_library(str(provider))) is not None:
        return f"{library} is missing or does not load (pip install tensorrt, of the version that onnxruntime names)"
    return missing_cuda(ort)


def missing_cuda(ort: Any) -> str:
    """Why onnxruntime's CUDA provider does not work here, in words; names the library that is missing."""
    capi = Path(ort.__file__).parent / "capi"
    provider = capi / "libonnxruntime_providers_cuda.so"
    if CUDA not in ort.get_available_providers() or not provider.exists():
        return "the installed onnxruntime has no CUDA (pip uninstall onnxruntime; pip install 'mllmrisk[gpu]')"
    missing = [
        f"{library} is missing or does not load ({cure})"
        for library, cure in (
            (_unloadable(capi), "pip install 'mllmrisk[gpu]' brings the CUDA and cuDNN libraries"),
            (_unloadable_library("libcuda.so.1"), "it comes with the NVIDIA driver"),
        )
        if library
    ]
    if missing:
        return " and ".join(missing)
    return "CUDA's libraries load, but no device answers (is CUDA_VISIBLE_DEVICES set? does nvidia-smi list a GPU?)"


def _unloadable(capi: Path) -> str | None:
    """The library for want of which onnxruntime's CUDA provider does not load, or None."""
    for name in ("libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"):
        if (library := _unloadable_library(str(capi / name))) is not None:
            return library
    return None


def _unloadable_library(name: str) -> str | None:
    try:
        ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    except OSError as missing:  # the loader's message begins with the name of the file that it did not find
        return str(missing).split(":", 1)[0]
    return None


def _preload(ort: Any) -> None:
    """Loads the CUDA libraries of the nvidia-* wheels; what onnxruntime prints about it stays off stdout."""
    preload = getattr(ort, "preload_dlls", None)
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()):
            preload()


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for a sentence of our own."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _field(number: int, value: int | bytes) -> bytes:
    """One protobuf field; every number here is below 128."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


def _doubling_model() -> bytes:
    """`y = x + x` on four floats as ONNX bytes, so that no `onnx` package is needed to try a session."""

    def value(name: bytes) -> bytes:
        four = _field(1, _field(1, 4))
        tensor = _field(1, 1) + _field(2, four)
        return _field(1, name) + _field(2, _field(1, tensor))

    node = _field(1, b"x") + _field(1, b"x") + _field(2, b"y") + _field(4, b"Add")
    graph = _field(1, node) + _field(2, b"double") + _field(11, value(b"x")) + _field(12, value(b"y"))
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 13))
