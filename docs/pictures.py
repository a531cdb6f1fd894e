"""A command's real output as a picture for the README.

    python docs/pictures.py docs/summarize.svg t2tbuild summarize t2t_vit_14

The command is run in the current folder, at 100 columns and in colour; what it prints on stdout becomes the picture.
"""

import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 100


def picture(command: list[str]) -> str:
    """The output of a command beneath its line, as an SVG that loads no font from elsewhere."""
    environment = os.environ | {"COLUMNS": str(COLUMNS), "FORCE_COLOR": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    console = Console(record=True, width=COLUMNS, file=StringIO())
    console.print(Text("$ " + " ".join(command), style="bold"))
    console.print(Text.from_ansi(done.stdout))
    return re.sub(r"@font-face \{.*?\}", "", console.export_svg(title=command[0]), flags=re.S)


def main() -> None:
    """Write the picture of the command that follows the file's name."""
    path, *command = sys.argv[1:]
    Path(path).write_text(picture(command), encoding="utf-8")


if __name__ == "__main__":
    main()
