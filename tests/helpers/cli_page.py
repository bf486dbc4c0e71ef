"""Write docs/cli.md from the command line itself.

python tests/helpers/cli_page.py --write
"""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
_HEAD = """\
# Command line

`xner-ray COMMAND --help` shows the same in a terminal; `python -m xner_ray` is `xner-ray` too.
`xner-ray --install-completion` completes commands and options in your shell.

Exit status: 0 done, 1 failed, 2 bad recipe or input, 3 finished with more rejects than `output.max_reject_rate`, 130
and 143 interrupted by Ctrl-C and by SIGTERM. Both may come at any moment: one line says so, and the same command
resumes. A second Ctrl-C, or twenty seconds, ends what does not listen.
"""
_FOOT = """
Made from the command line by `python tests/helpers/cli_page.py --write`; a test compares.
"""


def page() -> str:
    """Return the page."""
    command = [sys.executable, "-m", "typer", "xner_ray.cli", "utils", "docs", "--name", "xner-ray"]
    made = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "TERM": "dumb", "COLUMNS": "120"}
    ).stdout
    made = html.unescape(made)
    made = re.sub(r"^\* `--(install|show)-completion`.*\n", "", made, flags=re.MULTILINE)
    made = re.sub(r"^\* `--help`: .*\n", "", made, flags=re.MULTILINE)
    made = re.sub(r"\*\*Options\*\*:\n\n(?!\*)", "", made)
    first = made.index("## `xner-ray look`")
    return f"{_HEAD}\n{made[first:].rstrip()}\n{_FOOT}"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    PAGE.write_text(page(), "utf-8")
