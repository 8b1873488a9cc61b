"""The `aiqueue` command.

Commands import what they need when they run: asking for help must not wait for Kubernetes and database libraries.
"""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from aiqueue.cli import certificates, db, dev, explain, stdout
from aiqueue.cli.apply import apply
from aiqueue.cli.delete import delete
from aiqueue.cli.doctor import EPILOG as DOCTOR_EPILOG
from aiqueue.cli.doctor import doctor
from aiqueue.cli.exits import EPILOG, report
from aiqueue.cli.get import get
from aiqueue.cli.simulate import simulate
from aiqueue.queue.errors import AiqueueError


class SentenceGroup(TyperGroup):
    """Ends a command that fails on purpose with sentences on stderr and an exit code, never with a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the whole command line, its help and completion too."""
        with stdout.checked():
            return super().main(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except AiqueueError as error:
            raise typer.Exit(report(error)) from error


app = typer.Typer(
    cls=SentenceGroup,
    help="Batch queueing and admission control for Kubernetes clusters that run AI work.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they would show local variables, and so secrets
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=EPILOG)(apply)
app.command(epilog=EPILOG)(get)
app.add_typer(explain.app, name="explain")
app.command(epilog=EPILOG)(delete)
app.command(epilog=DOCTOR_EPILOG)(doctor)
app.command(epilog=EPILOG)(simulate)
app.add_typer(db.app, name="db")
app.add_typer(certificates.app, name="certificates")
app.add_typer(dev.app, name="dev")


@app.command()
def controller() -> None:
    """Run the controller until SIGTERM or SIGINT: observe, decide, act. Several may run; one leads."""
    from aiqueue.cli.controller import run
    from aiqueue.cli.ledger import settings

    run(settings())


@app.command()
def webhook() -> None:
    """Run the webhook until SIGTERM or SIGINT: it tells a wrong Job so at once. Any number may run."""
    from aiqueue.cli.ledger import settings
    from aiqueue.cli.webhook import run

    run(settings())


# Its options are its own: it is imported only when it runs.
@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def demo(context: typer.Context) -> None:
    """Show aiqueue at work on a cluster and a database of its own."""
    command = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    command.command()(import_module("aiqueue.cli.demo").run)
    # Not standalone, so that errors end where those of all commands do; an exit code is then what it returns.
    code = command(args=context.args, prog_name=context.command_path, standalone_mode=False)
    raise typer.Exit(code if isinstance(code, int) else 0)


@app.command()
def version() -> None:
    """Print the version of this program."""
    from importlib.metadata import version as version_of

    print(version_of("aiqueue"))


def _version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def _options(
    *,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version of this program.")
    ] = False,
) -> None: ...


if __name__ == "__main__":
    app()
