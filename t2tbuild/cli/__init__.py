"""The command line, one file per command. A command imports torch only when it needs it."""

import gc
import io
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Never

import typer

from t2tbuild.cli.aliases import AliasGroup
from t2tbuild.cli.bench import bench
from t2tbuild.cli.check import check
from t2tbuild.cli.compare import compare
from t2tbuild.cli.console import OutputFormat, print_json, stderr
from t2tbuild.cli.cp import cp
from t2tbuild.cli.data import data
from t2tbuild.cli.default_group import DefaultGroup
from t2tbuild.cli.diagram import diagram
from t2tbuild.cli.doctor import doctor
from t2tbuild.cli.download import download
from t2tbuild.cli.evaluate import evaluate
from t2tbuild.cli.export import export
from t2tbuild.cli.fit import fit
from t2tbuild.cli.init import init
from t2tbuild.cli.ls import ls
from t2tbuild.cli.predict import predict
from t2tbuild.cli.push import push
from t2tbuild.cli.report import report
from t2tbuild.cli.schema import schema
from t2tbuild.cli.search import search
from t2tbuild.cli.search_runs import export as export_search
from t2tbuild.cli.search_runs import repair, resume, status
from t2tbuild.cli.show import show
from t2tbuild.cli.summarize import summarize
from t2tbuild.cli.train import train
from t2tbuild.cli.validate import validate
from t2tbuild.cli.visualize import visualize
from t2tbuild.errors import InputError, SpecError, T2TBuildError, Terminated
from t2tbuild.files import escape_controls
from t2tbuild.spec.extension import consent

app = typer.Typer(
    name="t2tbuild",
    cls=AliasGroup,
    help="Declarative architecture search for Tokens-to-Token vision transformers: YAML in, better YAML out.",
    epilog="Start with: t2tbuild search --budget-macs 5G",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help takes a third of the time
    add_completion=True,
)
COMMANDS = (
    *(summarize, diagram, compare, fit, bench),
    *(data, train, evaluate, predict, report, visualize, export, push, download),
    *(validate, check, ls, show, cp, init, schema, doctor),
)
for command in COMMANDS:
    app.command()(command)
searches = typer.Typer(cls=DefaultGroup, rich_markup_mode=None, add_completion=False)
searches.command("spec", hidden=True)(search)
searches.command("status")(status)
searches.command("resume")(resume)
searches.command("export")(export_search)
searches.command("repair")(repair)
app.add_typer(searches, name="search", short_help=search.__doc__.splitlines()[0] if search.__doc__ else None)


def _print_version(requested: bool) -> None:
    if requested:
        from t2tbuild._version import __version__

        typer.echo(f"t2tbuild {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: bool = typer.Option(  # noqa: ARG001 - its callback prints
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
    allow_extensions: bool = typer.Option(
        False, consent.ALLOW_OPTION, help="Allow the Python files that specs name as extensions, as they are now."
    ),
) -> None:
    context.with_resource(consent.granting(allow_extensions))


def main() -> Never:
    """Run the command line and exit: 0 done, 1 failed, 2 the input was wrong, 130 or 143 interrupted."""
    gc.set_threshold(50_000)  # fewer collections save a sixth of the start-up time
    signal.signal(signal.SIGTERM, _terminate)
    with Path(os.devnull).open("w") as devnull:  # replaces a stream that the calling process closed
        sys.stdout, sys.stderr = sys.stdout or devnull, sys.stderr or devnull
        for stream in (sys.stdout, sys.stderr):  # a locale that lacks a character costs no traceback
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        _run()


def _arguments() -> list[str]:
    """Return the arguments of the command line, with --allow-extensions before the command, wherever it was given."""
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    if consent.ALLOW_OPTION not in given[:end]:
        return given
    return [consent.ALLOW_OPTION, *(one for one in given[:end] if one != consent.ALLOW_OPTION), *given[end:]]


def _run() -> Never:
    output = OutputFormat()
    try:
        app(_arguments(), obj=output)
        sys.stdout.flush()
    except InputError as error:
        _print_error(error, as_json=output.as_json)
        sys.exit(error.exit_code)
    except T2TBuildError as error:
        _print_line(str(error))
        sys.exit(error.exit_code)
    except OSError as error:  # for example, stdout goes to a full disk
        place = f"{error.filename}: " if isinstance(error.filename, str) and error.strerror else ""
        _print_line(place + (error.strerror or str(error)))
        sys.exit(T2TBuildError.exit_code)
    except Exception as error:
        from t2tbuild.spec.extension.user_errors import describe_extension_error

        message = describe_extension_error(error)
        if not message:
            raise
        _print_line(message)
        sys.exit(InputError.exit_code)
    except SystemExit as end:  # typer ends every KeyboardInterrupt with 130
        cause = getattr(end.__context__, "__cause__", None)
        sys.exit(cause.exit_code if isinstance(cause, Terminated) else end.code)
    sys.exit(0)


def _print_error(error: InputError, *, as_json: bool) -> None:
    """Print an error of the input: on stdout as JSON with --json, otherwise on stderr."""
    from t2tbuild.cli.diagnostics import diagnostics_to_json, print_diagnostics, to_diagnostics

    if as_json:
        print_json(diagnostics_to_json(to_diagnostics(error)))
    elif isinstance(error, SpecError):
        print_diagnostics(stderr(), error.diagnostics)
    else:
        _print_line(str(error))


def _print_line(error: str) -> None:
    print(f"error: {escape_controls(error)}", file=sys.stderr)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated
