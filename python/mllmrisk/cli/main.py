"""`mllmrisk`: finds the command, turns errors into one line and an exit code (DESIGN 5.1).

Exit codes: 0 all done; 2 the call or a config is wrong; 3 done, but some units failed; 130 interrupted.
"""

from __future__ import annotations

import importlib
import sys

import click

from mllmrisk.errors import MllmriskError
from mllmrisk.registry import did_you_mean

FAILED_UNITS = 3
INTERRUPTED = 130

#: Command → module that holds a `click.Command` named `command`, and the line that `--help` shows for it, so that
#: help needs to import none of them.
COMMANDS = {
    "evaluate": "Run a suite: images, scores, estimates with intervals, a report.",
    "detect": "Score images with a detector.",
    "doctor": "Say what is installed, what is broken, and the cure.",
    "expand": "Say a prompt set's captions again, richer, level by level.",
    "export": "Write a run's estimates or scores as CSV, JSONL or Parquet.",
    "export-detector": "Make a detector of published or own PyTorch weights, as ONNX and TOML, verified.",
    "features": "Extract forensic features to Parquet, CSV or NumPy.",
    "generate": "Make the images of a run with the profile's generators.",
    "import": "Check a manifest of images, and write it normalised with sha256.",
    "judge": "Score a run's images with a judge of unsafe content.",
    "list": "List suites, profiles, generators, prompt sets, judges, detectors, features, ...",
    "prompts": "Show a prompt set without its texts, or fetch its published file.",
    "report": "Write the report of a run again.",
    "show": "Lead from a figure of a run back to its images.",
    "train": "Train a detector and write it as an ONNX file.",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command's own module, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"mllmrisk.cli.{cmd_name.replace('-', '_')}_command")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A mistyped command gets a did-you-mean."""
        name = args[0] if args else ""
        if name and name not in COMMANDS and not name.startswith("-"):
            raise click.UsageError(f"no command {name!r}.{did_you_mean(name, COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mllmrisk")
def cli() -> None:
    """Measure how risky image generators are: unsafe images, and fakes that detectors miss."""


def main(args: list[str] | None = None) -> None:
    """Entry point: runs a command and exits with its code."""
    try:
        code = cli.main(args=args, prog_name="mllmrisk", standalone_mode=False)
    except click.exceptions.Abort:
        _say("interrupted; the same call goes on where it stood")
        sys.exit(INTERRUPTED)
    except KeyboardInterrupt:
        _say("interrupted; the same call goes on where it stood")
        sys.exit(INTERRUPTED)
    except click.ClickException as wrong:
        wrong.show()
        sys.exit(wrong.exit_code if wrong.exit_code != 1 else 2)
    except MllmriskError as wrong:
        _say(str(wrong))
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


def _say(message: str) -> None:
    click.echo(f"mllmrisk: {message}", err=True)


if __name__ == "__main__":
    main()
