"""Pages of the documentation, followed as a new user follows them: each block of Python or of commands, in order, in an empty folder."""

import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from pellucid.cli import app

DOCS = Path(__file__).parents[1] / "docs"


def told(*args, code=0):
    """What a command gives; it must end with this code."""
    got = CliRunner().invoke(app, [str(a) for a in args])
    assert got.exit_code == code, got.output + repr(got.exception)
    return got


def followed(page, folder, patch, *, part=None, added=lambda args: ()):
    """Run the blocks of a page, or of one part of it; {command: what it printed}. ``added`` says what is given to a command besides."""
    patch.chdir(folder)
    text, printed, names = (DOCS / page).read_text(), {}, {}
    if part is not None:
        text = text.split(f"## {part}\n", 1)[1].split("\n## ")[0]
    for kind, block in re.findall(r"```(python|sh)\n(.*?)```", text, re.S):
        if kind == "python":
            exec(compile(block, page, "exec"), names)
            continue
        for line in block.splitlines():
            program, *args = shlex.split(line)
            assert program == "pellucid" and line not in printed
            printed[line] = told(*args, *added(args)).stdout
    return printed
