"""Code, messages, templates and docs use the field's words: words of a private language are found and counted.

`python tests/test_vocabulary.py [FOLDER]` prints the count of each word in a checkout, and `--lines` every place.
"""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SUFFIXES = {".py", ".md", ".yaml", ".yml", ".toml", ".j2", ".js", ".css", ".sbatch"}
SKIPPED = {  # the history of names, the old names that still work, and this list
    "CHANGELOG.md",
    "t2tbuild/nas/old_names.py",
    "tests/nas/test_old_names.py",
    "tests/test_vocabulary.py",
}

WORDS = {
    "anew": r"anew",
    "arm of chance": r"(?:drawn|draws?|draw) by chance|by_chance|arm of chance",
    "chances": r"chances",
    "climb": r"climb(?:s|ed|er|ers|ing)?",
    "deaf": r"deaf|taken for dead",
    "dear": r"too dear|dearer|dearest",
    "dial": r"dials?",
    "drawn by the seed": r"drawn by the seed",
    "foretell": r"foretell(?:s|ing)?|foretold",
    "glyph": r"glyphs?",
    "hear": r"hear|hears|heard|unheard",
    "house": r"houses?|rooms?",
    "judge": r"judges?|judged|judging|judge?ments?",
    "let go": r"lets? go|letting go|let_go",
    "looks": r"looks|Looks",
    "race": r"races?|run_race",
    "rehearse": r"rehears\w*",
    "mend": r"mend(?:s|ed|ing)?",
    "remade": r"remade|made again",
    "shelf": r"shel(?:f|ves)",
    "stand back": r"stands? back|stands? twice|stands? in for|stand-ins?|stand_in",
    "tell": r"(?<!\.)(?:tells?|told|telling)|TOLD",
    "thrift": r"thrift\w*|yardsticks?",
    "trunk": r"trunks?",
    "twin": r"twins?|is_twin",
}


def files(root: Path) -> Iterator[Path]:
    """Every tracked or new text file of a checkout that people read."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=True
    )
    for name in sorted(set(listed.stdout.splitlines()) - SKIPPED):
        path = root / name
        if path.suffix in SUFFIXES and path.is_file():
            yield path


def findings(root: Path) -> Iterator[tuple[str, str]]:
    """(word, place) of each word of the list; the parts of an identifier are words too."""
    patterns = {
        word: re.compile(rf"(?<![A-Za-z])(?:{rule})(?![A-Za-z])", re.IGNORECASE) for word, rule in WORDS.items()
    }
    for path in files(root):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            split = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", line)  # CamelCase
            for word, pattern in patterns.items():
                for _ in pattern.finditer(split):
                    yield word, f"{path.relative_to(root)}:{number}: {line.strip()}"


def test_no_word_of_a_private_language_is_left() -> None:
    found = list(findings(ROOT))
    assert not found, "\n".join(f"{word}: {place}" for word, place in found[:40])


def test_the_words_are_found(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "one.py").write_text("told = is_heard(Climber)  # study.tell(trial), the telltale retold\n")
    assert Counter(word for word, _ in findings(tmp_path)) == {"tell": 1, "hear": 1, "climb": 1}


if __name__ == "__main__":
    folder = next((Path(one) for one in sys.argv[1:] if not one.startswith("-")), ROOT)
    if "--lines" in sys.argv:
        print("\n".join(f"{word}: {place}" for word, place in findings(folder)))
    counts = Counter(word for word, _ in findings(folder))
    print(
        "\n".join(f"{count:6d} {word}" for word, count in counts.most_common()), f"{counts.total():6d} in all", sep="\n"
    )
