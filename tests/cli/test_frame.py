"""The command line's frame: quick to answer, plain when it fails, and with an exit code that means something."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated

import pytest
import typer

from rawpunch import errors
from rawpunch.cli import app, loading, output
from rawpunch.version import __version__

RAWPUNCH = [sys.executable, "-m", "rawpunch.cli.app"]
HEAVY = ("scapy", "pandas", "numpy", "scipy", "matplotlib", "pyarrow", "netfilterqueue", "pyroute2")


def _say_hello(
    name: str,
    times: Annotated[int, typer.Option(help="How often.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="As a document.")] = False,
) -> None:
    """Say hello."""
    if json:
        output.document("rawpunch.hello/1", {"name": name, "times": times})
    else:
        output.say("about to greet")
        output.detail("step by step")
        output.data("\n".join([f"hello {name}"] * times))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[Callable[..., None]], None]]:
    """Puts a function of the test's own under `rawpunch hello`, in an empty folder."""
    module = ModuleType("hello_command")
    module.EXAMPLES = ("rawpunch hello Alice", "rawpunch hello Bob --times 2")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(app.COMMANDS, "hello", app.Row(module.__name__, "greet somebody"))
    monkeypatch.chdir(tmp_path)

    def install(function: Callable[..., None]) -> None:
        module.command = function  # type: ignore[attr-defined]

    install(_say_hello)
    yield install
    output.set_level(0)


def _fails_with(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        """Fail."""
        raise error

    return function


# --- the overview ---


def test_help_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """`rawpunch --help` shows on stdout what can be called, and what the exit codes mean."""
    assert app.main(["--help"]) == 0
    said = capsys.readouterr()
    assert all(f"  {name} " in said.out and row.help in said.out for name, row in app.COMMANDS.items())
    assert all(f"  {code} " in said.out and meaning in said.out for code, meaning in app.EXIT_CODES.items())
    assert not said.err


def test_every_error_has_a_documented_exit_code() -> None:
    """No error in the tree exits with a code that the help does not explain."""
    tree = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, errors.RawpunchError)]
    assert {error.exit_code for error in tree} == set(app.EXIT_CODES) - {0, 70, 130}


@pytest.mark.parametrize("words", [["-h"], ["-v", "--help"]])
def test_the_overview_is_one(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Whichever way help is asked for, through Typer or not, the text is the same."""
    assert app.main(words) == 0
    assert capsys.readouterr().out.rstrip() == app.overview()


def test_help_is_quick() -> None:
    """`rawpunch --help` answers within 0.2 s as a whole process, start of Python included."""

    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([*RAWPUNCH, "--help"], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.2


def test_help_loads_nothing_heavy() -> None:
    """Neither the overview nor a command's own --help imports what makes packets, tables or plots."""
    commands = [name for name in app.COMMANDS if name != "hello"]
    program = (
        "import sys; from rawpunch.cli.app import main\n"
        f"for words in [['--help']] + [[name, '--help'] for name in {commands}]:\n"
        "    assert main(words) == 0, words\n"
        f"sys.exit(' '.join(set({HEAVY}) & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.stderr.strip() == ""


def test_nothing_asked_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """`rawpunch` alone shows the overview, on stderr: a script that lost its command does not go on."""
    assert app.main([]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.rstrip()) == ("", app.overview())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`rawpunch --version` prints name and version."""
    assert app.main(["--version"]) == 0
    assert capsys.readouterr().out == f"rawpunch {__version__}\n"


# --- commands ---


@pytest.mark.parametrize("name", app.COMMANDS)
def test_every_command_keeps_the_contract(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command in the table loads, explains itself, takes -v, and ends its help with examples of its own."""
    assert app.main([name, "-h"]) == 0
    text = capsys.readouterr().out
    examples = text.partition("examples:\n")[2].strip().splitlines()
    assert examples
    assert all(example.strip().startswith(f"rawpunch {name}") for example in examples)
    assert len(text.partition("examples:\n")[0].split()) > 10
    loaded = loading.load(name, app.COMMANDS[name].module)
    assert "--verbose" in text or hasattr(loaded, "commands")


@pytest.mark.usefixtures("command")
def test_a_command_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments and options arrive; data goes to stdout, talk to stderr, steps nowhere unless asked for."""
    assert app.main(["hello", "Alice", "--times", "2"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("hello Alice\nhello Alice\n", "about to greet\n")


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize("words", [["-v", "hello", "Bob"], ["hello", "Bob", "-v"], ["hello", "-v", "Bob"]])
def test_verbose_anywhere(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """-v shows the steps, before the command's name or after it."""
    assert app.main(words) == 0
    assert capsys.readouterr().err == "about to greet\nstep by step\n"


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize("words", [["-q", "hello", "Bob"], ["hello", "Bob", "--quiet"]])
def test_quiet_anywhere(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """-q leaves the data and nothing else."""
    assert app.main(words) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("hello Bob\n", "")


@pytest.mark.usefixtures("command")
def test_examples_keep_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """The examples at the end of a command's help are not wrapped into a paragraph."""
    assert app.main(["hello", "--help"]) == 0
    assert capsys.readouterr().out.endswith("    rawpunch hello Alice\n    rawpunch hello Bob --times 2\n")


def test_subcommands_have_the_same_frame(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A module may define an `app` with subcommands; they take -v too."""
    module = ModuleType("greet_command")
    group = typer.Typer(help="Greet.")
    group.command("hello")(_say_hello)
    group.command("bye")(_say_hello)
    module.app = group  # type: ignore[attr-defined]
    module.EXAMPLES = ("rawpunch greet hello Alice",)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(app.COMMANDS, "greet", app.Row(module.__name__, "greet"))
    assert app.main(["greet", "hello", "Alice", "-v"]) == 0
    assert capsys.readouterr().err == "about to greet\nstep by step\n"
    assert app.main(["greet", "helo"]) == 2
    assert "Did you mean 'hello'?" in capsys.readouterr().err


# --- failures ---


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rnu"], "rawpunch: No such command 'rnu'. Did you mean 'run'?\ntry: rawpunch --help\n"),
        (["hello"], "rawpunch: Missing argument 'name'.\ntry: rawpunch hello --help\n"),
        (
            ["hello", "x", "--tims", "2"],
            "rawpunch: No such option: --tims (Possible options: --times)\ntry: rawpunch hello --help\n",
        ),
    ],
)
def test_usage_errors(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be understood exits with 2, says so on stderr in two lines, and suggests what may have been meant."""
    assert app.main(words) == 2
    heard = capsys.readouterr()
    assert (heard.out, heard.err) == ("", said)


@pytest.mark.parametrize(
    "error",
    [
        errors.RawpunchError("the moon is full"),
        errors.UnknownName("no run of that name", todo="rawpunch runs ls"),
        errors.MachineCannot("no namespaces", why="the kernel says no", todo="sysctl something"),
        errors.PolicyRefused("no entry for 192.0.2.1", why="the policy file has none"),
        errors.PartialData("3 of 5 attempts", why="the lab died"),
    ],
)
def test_known_errors_take_three_lines(
    error: errors.RawpunchError, command: Callable[[object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """An error of ours says what, why and what to try on stderr, exits with its code, and shows no traceback."""
    command(_fails_with(error))
    assert app.main(["hello"]) == error.exit_code
    heard = capsys.readouterr()
    assert (heard.out, heard.err) == ("", f"rawpunch: {error}\n")


def test_an_exit_code_of_the_command(command: Callable[[object], None]) -> None:
    """A verdict that failed is told by the exit code alone."""
    command(_fails_with(typer.Exit(1)))
    assert app.main(["hello"]) == 1


def test_ctrl_c(command: Callable[[object], None], capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends with 130 and one line."""
    command(_fails_with(KeyboardInterrupt()))
    assert app.main(["hello"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_full_disk_is_the_machines_fault(
    number: int, command: Callable[[object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Full, read-only and forbidden places exit with 3, name the place, and show no traceback."""
    command(_fails_with(OSError(number, os.strerror(number), "/data/runs/1")))
    assert app.main(["hello"]) == 3
    said = capsys.readouterr().err
    assert said.startswith(f"rawpunch: {os.strerror(number)}: /data/runs/1\ntry: ")
    assert said.count("\n") == 2


@pytest.mark.parametrize("error", [ValueError("odd"), OSError(errno.EBADF, "Bad file descriptor")])
def test_own_mistakes_ask_for_a_report(
    error: Exception, command: Callable[[object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Anything unforeseen shows where it happened and asks for a report; its code is not that of a failed verdict."""
    command(_fails_with(error))
    assert app.main(["hello"]) == 70
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "report" in said


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_leaves(lines: int) -> None:
    """A closed pipe (`rawpunch runs ls | head -1`) ends the process without a word, however much was left to say."""
    program = (
        "import sys; from rawpunch.cli import app, output\n"
        f"app._run = lambda words: output.data('x' * 70 + chr(10)) or [output.data('x' * 70) for _ in range({lines})] and 0\n"
        "sys.exit(app.main(['runs', 'ls']))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    found = subprocess.run([sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (found.returncode, found.stderr) == (141, "")


# --- settings ---


@pytest.mark.usefixtures("command")
def test_layers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A flag wins over the environment, that over ./rawpunch.toml, that over the user's file, and that over the default."""

    def times(*words: str) -> int:
        assert app.main(["hello", "A", *words]) == 0
        return capsys.readouterr().out.count("hello")

    assert times() == 1
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "rawpunch").mkdir(parents=True)
    (tmp_path / "config" / "rawpunch" / "rawpunch.toml").write_text("[hello]\ntimes = 2\n")
    assert times() == 2
    Path("rawpunch.toml").write_text("[hello]\ntimes = 3\n")
    assert times() == 3
    monkeypatch.setenv("RAWPUNCH_HELLO_TIMES", "4")
    assert times() == 4
    assert times("--times", "5") == 5


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[hello]\ntims = 2\n", "'tims' in section [hello] of rawpunch.toml is no option of `rawpunch hello`"),
        ("[hello.inner]\ntimes = 2\n", "'inner' in section [hello] of rawpunch.toml is no option"),
        ("[helo]\ntimes = 2\n", "section [helo] in rawpunch.toml is no command"),
        ("times = 2\n", "'times' in rawpunch.toml stands outside a section"),
        ("[hello\n", "the settings in rawpunch.toml cannot be read"),
        ('[hello]\ntimes = "many"\n', "Invalid value for '--times'"),
    ],
)
def test_settings_that_make_no_sense(text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A setting that would silently do nothing is an error instead, and says which."""
    Path("rawpunch.toml").write_text(text)
    assert app.main(["hello", "A"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("command")
def test_settings_of_other_commands_do_not_disturb(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong key under one command leaves the others usable."""
    Path("rawpunch.toml").write_text("[hello]\ntims = 2\n")
    assert app.main(["clean", "--help"]) == 0
    assert "clean" in capsys.readouterr().out
