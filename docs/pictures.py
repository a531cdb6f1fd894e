"""Write the output of a command as an SVG for the README.

    python docs/pictures.py docs/summarize.svg t2tbuild summarize t2t_vit_14

The command runs in the current folder, with 110 columns and in colour. The picture shows its stdout.
"""

import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 110


def render_output(command: list[str]) -> str:
    """Run a command and return its command line and output as an SVG that loads no remote font."""
    environment = os.environ | {"COLUMNS": str(COLUMNS), "FORCE_COLOR": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    console = Console(record=True, width=COLUMNS, file=StringIO())
    console.print(Text("$ " + " ".join(command), style="bold"))
    console.print(Text.from_ansi(done.stdout))
    return re.sub(r"@font-face \{.*?\}", "", console.export_svg(title=command[0]), flags=re.S)


def main() -> None:
    """Write the output of the command in the arguments into the file in the first argument."""
    path, *command = sys.argv[1:]
    Path(path).write_text(render_output(command), encoding="utf-8")


if __name__ == "__main__":
    main()
