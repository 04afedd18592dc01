"""The command line's frame: one table of commands, each loaded when it is called and not before.

A command called ``name`` lives in ``rawpunch/cli/<name>_command.py``, a thin module that parses, calls the floors below and
prints. It defines

    EXAMPLES: tuple[str, ...]     whole command lines, shown at the end of its --help
    command                       a function in Typer's manner (Annotated options); its docstring is the help text
or  app                           a typer.Typer() with several subcommands (`rawpunch runs ls`)

and keeps these rules:

- data through `output.data`, `output.table`, `output.document`; talk through `output.say`, `output.detail`, `output.warn`.
- Failures are raised as `rawpunch.errors`; the frame prints what, why and what to try, and exits with the error's code. A verdict
  that failed without an error is ``raise typer.Exit(1)``.
- Heavy imports (scapy, pandas, scipy, matplotlib) stand inside the functions that need them.
- -h, -v and -q, defaults from ``RAWPUNCH_<COMMAND>_<OPTION>`` and from rawpunch.toml come from the frame, for every command.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final, NamedTuple

from rawpunch.cli import output
from rawpunch.cli.head_start import head_start
from rawpunch.errors import MachineCannot, RawpunchError, UsageError
from rawpunch.version import __version__


class Row(NamedTuple):
    """A command: where it lives, and its line in the overview."""

    module: str
    help: str


COMMANDS: Final = {
    "doctor": Row("rawpunch.cli.doctor_command", "what this machine can do, and how to mend what it cannot"),
    "demo": Row("rawpunch.cli.demo_command", "the main job in under a minute: two hosts, two NATs, real packets"),
    "run": Row("rawpunch.cli.run_command", "run an experiment, by name or from your own file"),
    "experiments": Row("rawpunch.cli.experiments_command", "the experiments that come along, and what they ask"),
    "claims": Row("rawpunch.cli.claims_command", "what the data say of the claims that this toolkit tests"),
    "runs": Row("rawpunch.cli.runs_command", "list, show, verify or remove finished runs"),
    "lab": Row("rawpunch.cli.lab_command", "a standing lab to play in"),
    "observe": Row("rawpunch.cli.observe_command", "be the server outside the NAT that a probe asks; speaks STUN too"),
    "stun": Row("rawpunch.cli.stun_command", "what endpoint a local port has outside, as any STUN server sees it"),
    "probe": Row("rawpunch.cli.probe_command", "what NAT is in front of me: by axis and by RFC 5382, with evidence"),
    "rendezvous": Row("rawpunch.cli.rendezvous_command", "be the server that introduces peers, and says when they begin"),
    "punch": Row("rawpunch.cli.punch_command", "connect directly with a peer behind another NAT: chat, pipe, command"),
    "decode": Row("rawpunch.cli.decode_command", "capture files to Parquet, every segment a row"),
    "classify": Row("rawpunch.cli.classify_command", "what happened in each handshake of some captures"),
    "ladder": Row("rawpunch.cli.ladder_command", "draw an attempt to time scale: terminal, SVG or Mermaid"),
    "replay": Row("rawpunch.cli.replay_command", "play a captured flow again, and say what became of each packet"),
    "clean": Row("rawpunch.cli.clean_command", "remove what a killed lab left behind"),
}

EXIT_CODES: Final = {
    0: "ok",
    1: "a verdict or an expectation failed",
    2: "usage: no such command, name, parameter or readable file",
    3: "this machine cannot: a feature, tool, privilege or space is missing",
    4: "refused by the safety policy",
    5: "partial data: some attempts could not be measured",
    70: "a mistake in rawpunch itself",
    130: "interrupted (Ctrl-C); finished attempts are kept",
}

_EXAMPLES: Final = ("rawpunch doctor", "rawpunch demo", "rawpunch run raw-vs-kernel --repeat 20", "rawpunch runs ls")

_OPTIONS: Final = (
    ("-v, --verbose", "say more; -vv says everything"),
    ("-q, --quiet", "say only warnings and errors"),
    ("--version", "print the version and exit"),
    ("-h, --help", "this text; after a command, that command's options and examples"),
)

_ALLOCATED: Final = 20_000
"""Objects more than before, after which garbage is looked for; with the usual 700 a tenth of a start goes into looking."""

_MACHINE_ERRNOS: Final = {
    errno.ENOSPC: "free some space, or put the data elsewhere",
    errno.EDQUOT: "free some of your quota, or put the data elsewhere",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "check the owner and the permissions",
    errno.EPERM: "rawpunch doctor",
    errno.EMFILE: "raise the limit of open files: ulimit -n",
}


def overview() -> str:
    """What `rawpunch --help` prints; made from the tables above, so that no command is loaded for it."""
    return "\n".join(
        [
            "usage: rawpunch [OPTIONS] COMMAND [ARGS]",
            "",
            "A laboratory for TCP simultaneous open and TCP NAT traversal, packet by packet.",
            "",
            "commands:",
            *(f"  {name:<14} {row.help}" for name, row in COMMANDS.items()),
            "",
            "options:",
            *(f"  {option:<14} {meaning}" for option, meaning in _OPTIONS),
            "",
            "examples:",
            *(f"  {example}" for example in _EXAMPLES),
            "",
            "exit codes:",
            *(f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items()),
            "",
            "stdout is data, stderr is talk; NO_COLOR turns colour off. Defaults: a flag, else RAWPUNCH_<COMMAND>_<OPTION>,",
            "else ./rawpunch.toml, else ~/.config/rawpunch/rawpunch.toml (a section per command, a key per option).",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: the words after `rawpunch`; the process's own when None.

    Returns:
        The exit code, one of `EXIT_CODES`.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    gc.set_threshold(_ALLOCATED)
    output.set_level(0)
    try:
        with head_start(words):
            code = _run(words)
        sys.stdout.flush()
    except RawpunchError as error:
        output.fail(error)
        return error.exit_code
    except BrokenPipeError:
        _forget_stdout()
        return 128 + 13  # what a shell reports of a process that SIGPIPE ended
    except KeyboardInterrupt:
        output.complain("rawpunch: interrupted; finished attempts are kept")
        return 130
    except OSError as error:
        if error.errno not in _MACHINE_ERRNOS:
            return _own_mistake()
        what = f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
        output.fail(MachineCannot(what, todo=_MACHINE_ERRNOS[error.errno]))
        return MachineCannot.exit_code
    except Exception:  # noqa: BLE001 - the last resort: whatever it is, the user learns what to do with it
        return _own_mistake()
    return code


def _run(words: Sequence[str]) -> int:
    if not words:
        output.complain(overview())
        return UsageError.exit_code
    if words[0] in ("-h", "--help"):  # half of the answer's time would go into loading Typer
        output.data(overview())
        return 0
    from rawpunch.cli.loading import Frame, run  # noqa: PLC0415 - the overview does without Typer

    return run(Frame(COMMANDS, overview), words)


def _forget_stdout() -> None:
    """Let the interpreter's last flush go nowhere: whoever read our output has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _own_mistake() -> int:
    traceback.print_exc()
    output.complain(
        "rawpunch: this is a mistake in rawpunch, not yours\n"
        f"try: report it with the lines above, the output of `rawpunch doctor --json`, and the version, {__version__}"
    )
    return 70


if __name__ == "__main__":
    sys.exit(main())
