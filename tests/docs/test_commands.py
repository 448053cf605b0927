"""Every `trivit` command of the README, the documentation and the command's own help has options that exist."""

import re
import shlex
from pathlib import Path

import pytest

typer = pytest.importorskip("typer")

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def commands():
    from vit_cli.app import app

    for page in PAGES:
        for block in BLOCK.finditer(page.read_text()):
            yield from re.findall(r"^trivit .*", block[1].replace("\\\n", ""), re.MULTILINE)
    for command in typer.main.get_command(app).commands.values():
        yield from re.findall(r"`(trivit .*?)`$", command.help, re.MULTILINE)


def test_commands_of_the_documentation_are_understood():
    from vit_cli.app import app

    group, seen = typer.main.get_command(app), set()
    for line in commands():
        _, name, *arguments = shlex.split(line.split(" > ")[0], comments=True)
        if name in group.commands:
            group.commands[name].make_context(name, arguments)  # raises what the command would answer
            seen.add(name)
        else:
            assert name in ("--version", "--help"), line
    assert seen == set(group.commands)
