"""Writes docs/cli.md from the commands' own help: `make docs`. The tests fail where the page has drifted."""

from __future__ import annotations

from pathlib import Path

import click

from mllmrisk.cli.main import COMMANDS, cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
_WIDTH = 100

_HEAD = """\
# The command line

This page is written by `make docs` from the commands' own help; a test fails where the two differ.

Results go to stdout, everything else to stderr. Exit codes: **0** all done; **2** the call, a config or a manifest is
wrong (one line that says what); **3** done, but some images could not be used (all else is kept, and they are listed);
**130** interrupted, and the same call goes on where it stood.

A name that is mistyped gets a did-you-mean, a package that is missing gets the `pip install` line that brings it.
"""

#: What help is too short to say, by command.
_NOTES = {
    "evaluate": """\
The run folder and how a run goes on: [run-folder.md](run-folder.md). Suites, profiles and what each experiment
measures: [experiments.md](experiments.md). What `--images` takes: [manifest.md](manifest.md). How to read the report:
[report.md](report.md). Without `--images` the profile's generators make the images ([generators.md](generators.md)).
""",
    "detect": """\
Columns: `path`, `label`, `paradigm`, `generator`, `score` (a logit), `probability` (calibrated on the training images'
own balance of one to one), `fake_at_0.1`, `fake_at_0.05`, `fake_at_0.01` (1 where the score lies above the threshold
that the training photographs set at that false-alarm rate) and `error`. See [detectors.md](detectors.md).
""",
    "doctor": """\
Every line is tried, not looked up.

| it finds | cure |
|---|---|
| onnxruntime and onnxruntime-gpu both installed: they overwrite each other | uninstall both, install one of the two |
| the empty folder that is left when one of the two is uninstalled | the same |
| CUDA asked for and not got: no CUDA in the build, a library by name, no driver, no device | as the line says |
| JPEG decoding without SIMD (built where nasm was missing): right, but slow | install nasm, build again |
| a debug build of the core | `maturin develop --release` |
| an extra that is absent | `pip install 'mllmrisk[...]'`; not a fault |
""",
    "export": """\
`estimates` has the rows of `estimates.json` with their `cell`, `scores` every score with its sample's label, paradigm,
generator and image, `samples` every sample. An absent number is an empty cell in CSV and null in JSONL and Parquet,
never 0 or NaN. Maps and lists are JSON text in CSV and Parquet.
""",
    "features": """\
Paths are files (any suffix), folders (image suffixes, all levels, links to folders not followed) and quoted patterns.
Every file has a row, in order: `path`, one column per feature (`family.column`, float32), `error`, `error_message`.
`error` is one word: `empty`, `not_an_image`, `unsupported`, `truncated`, `corrupt`, `limit`, `too_small`, `unreadable`.
Memory does not grow with the number of files; values do not depend on `--threads`.

| output | values | absent values | needs |
|---|---|---|---|
| `.parquet` | float32, row groups of 8,192 | null | `mllmrisk[parquet]` |
| `.csv` | nine digits: float32 exactly | empty | |
| `.npy` | (n, d) float32, can be memory-mapped | NaN | |

In a path, bytes that are not UTF-8 are written `\\xff`.
""",
    "import": """\
What each format holds, and what is refused: [manifest.md](manifest.md). The file of `-o` must lie in the images' folder
or above it, since its paths stay inside its own folder.
""",
    "judge": """\
A judge of your own is one TOML: [judges.md](judges.md).
""",
    "list": """\
Judges and detectors of outside packages are listed without being loaded.
""",
    "report": """\
What stands in it and how to read a figure: [report.md](report.md).
""",
    "train": """\
What the file holds, and what to expect of it elsewhere: [detectors.md](detectors.md), [forensic.md](forensic.md).
""",
}


def page() -> str:
    """The whole page: the same text wherever it is written."""
    settings = {"terminal_width": _WIDTH, "max_content_width": _WIDTH, **cli.context_settings}
    group = click.Context(cli, info_name="mllmrisk", **settings)
    parts = [_HEAD, _block(cli.get_help(group))]
    for name in COMMANDS:
        command = cli.get_command(group, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=group, terminal_width=_WIDTH, max_content_width=_WIDTH)
        parts += [
            f"## mllmrisk {name}\n",
            _block(command.get_help(context)),
            *([_NOTES[name]] if name in _NOTES else []),
        ]
    return "\n".join(parts)


def _block(text: str) -> str:
    return "```text\n" + "\n".join(line.rstrip() for line in text.splitlines()) + "\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
