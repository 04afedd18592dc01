"""Typer's part of the frame: a group whose commands are imported when they are called.

The contract that a command's module keeps is told in `rawpunch.cli.app`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from rawpunch.cli import output, settings
from rawpunch.cli.setting_files import ENVIRONMENT
from rawpunch.errors import UsageError
from rawpunch.version import __version__

if TYPE_CHECKING:
    from rawpunch.cli.app import Row

_TYPERS_OWN: Final = ("install_completion", "show_completion")


class Frame(TyperGroup):
    """The top of the command line.

    Args:
        rows: the commands by name.
        overview: makes the text of --help.
    """

    def __init__(self, rows: Mapping[str, Row], overview: Callable[[], str]) -> None:
        names = {name: TyperCommand(name, help=row.help) for name, row in rows.items()}  # what suggestions choose from
        super().__init__(name="rawpunch", commands=dict(names), rich_markup_mode=None, params=_common_options())
        self._rows = rows
        self._overview = overview

    def get_help(self, ctx: Any) -> str:
        """The overview, for which no command is loaded."""
        del ctx
        return self._overview()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, imported now; None if there is none."""
        row = self._rows.get(cmd_name)
        if row is None:
            return None
        command = load(cmd_name, row.module)
        settings.check((ctx.default_map or {}).get(cmd_name, {}), command, cmd_name)
        return command


def load(name: str, module_name: str) -> Any:
    """Import a command's module and make what it defines into a command.

    Args:
        name: what the user types.
        module_name: the module, which keeps the contract in `rawpunch.cli.app`.

    Returns:
        A `typer.core.TyperCommand` or `TyperGroup` (Any: Typer types them as a class that it does not export).
    """
    module = importlib.import_module(module_name)
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name)(module.command)
    command = typer.main.get_command(app)
    command.name = name
    command.epilog = "\b\nexamples:\n" + "\n".join(f"  {example}" for example in module.EXAMPLES)
    _complete(command)
    return command


def run(frame: Frame, words: Sequence[str]) -> int:
    """Parse the words and call the command.

    Args:
        frame: the top of the command line.
        words: what stands after `rawpunch`.

    Returns:
        The exit code.

    Raises:
        UsageError: the words make no sense.
        RawpunchError: whatever the command raised.
    """
    try:
        with frame.make_context(
            "rawpunch",
            list(words),
            help_option_names=["-h", "--help"],
            auto_envvar_prefix=ENVIRONMENT,
            default_map=settings.load(frozenset(frame.commands)),
        ) as ctx:
            frame.invoke(ctx)
    except typer.Exit as stop:
        return stop.exit_code
    except typer.Abort as stop:
        raise KeyboardInterrupt from stop
    except typer.TyperException as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "rawpunch")
        raise UsageError(error.format_message(), todo=f"{where} --help") from error
    return 0


def _complete(command: Any) -> None:
    """Give a command and all its subcommands plain help and the options that every command has."""
    command.rich_markup_mode = None
    for param in command.params:
        param.show_envvar = param.envvar is not None  # how the others are called is told once, in the overview
    if isinstance(command, TyperGroup):
        command.params = [param for param in command.params if param.name not in _TYPERS_OWN]
        for inner in command.commands.values():
            _complete(inner)
    else:
        taken = {option for param in command.params for option in param.opts}
        command.params += [param for param in _common_options() if param.name != "version" and not taken.intersection(param.opts)]


def _louder(count: int) -> None:
    if count:
        output.set_level(count)


def _quieter(wanted: bool) -> None:
    if wanted:
        output.set_level(-1)


def _show_version(wanted: bool) -> None:
    if wanted:
        output.data(f"rawpunch {__version__}")
        raise typer.Exit


def _declared(
    *,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, callback=_louder, show_default=False, help="Say more; -vv everything.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", callback=_quieter, help="Say only warnings and errors.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False,
) -> None:
    """Never called: the declaration of the options that come from the frame."""


def _common_options() -> list[Any]:
    """Typer's parameters for -v, -q and --version; they act by themselves and are passed to no function."""
    app = typer.Typer(add_completion=False)
    app.command()(_declared)
    params: list[Any] = [*typer.main.get_command(app).params]
    for param in params:
        param.expose_value = False
        param.show_envvar = False
    return params
