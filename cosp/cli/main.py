"""The command line. Progress goes to stderr, tables, JSON and paths to stdout.

Exit codes: 0 success; 2 the user gave something unusable (one line says what); 1 anything else; after a signal 130
(Ctrl-C), 143 (SIGTERM) or 129 (SIGHUP).
"""

from __future__ import annotations

import sys

import click
import typer
from click.exceptions import NoArgsIsHelpError

from cosp.cli import adapt, boards, devices, keys, models, runs, server, signals, tables, watch
from cosp.cli.screen import err, show_any_text
from cosp.errors import CospError, UserError

app = typer.Typer(
    help="Train one transformer on many weak, unequal boards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for commands in (runs, adapt, models, watch, tables, devices, keys, server, boards):
    app.add_typer(commands.app)


def main() -> None:
    """Run the command line; errors that a person can mend are one line and exit code 2."""
    show_any_text()
    try:
        with signals.heeded():
            sys.exit(app(prog_name="cosp", standalone_mode=False))
    except NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "cosp"
        said = error.format_message().rstrip(".")
        _say(f"{said} See {command} --help" if said.endswith("?") else f"{said}; see {command} --help")
        sys.exit(2)
    except UserError as error:
        _say(" ".join(str(error).splitlines()))  # a value may hold line breaks
        sys.exit(2)
    except CospError as error:
        _say(str(error))
        sys.exit(1)


def _say(error: str) -> None:
    err.print(f"cosp: {error}", style="red", highlight=False, soft_wrap=True)
