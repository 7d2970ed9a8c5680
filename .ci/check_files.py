"""Small checks of files, for pre-commit and .ci/run: ``python .ci/check_files.py end-of-file|yaml|size FILE...``."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

LARGEST = 250 * 1024


def end_of_file(path: Path) -> str | None:
    """Complain unless a text file ends with exactly one newline (an empty one is fine)."""
    data = path.read_bytes()
    wrong = bool(data) and (not data.endswith(b"\n") or data.endswith(b"\n\n"))
    return "must end with exactly one newline" if wrong else None


def valid_yaml(path: Path) -> str | None:
    """Complain if a YAML file does not parse."""
    try:
        yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        return " ".join(str(error).split())
    return None


def size(path: Path) -> str | None:
    """Complain about a file above 250 KB."""
    found = path.stat().st_size
    return f"has {found // 1024} KB, more than {LARGEST // 1024}" if found > LARGEST else None


CHECKS = {"end-of-file": end_of_file, "yaml": valid_yaml, "size": size}


def main(arguments: list[str]) -> int:
    """Print what is wrong, one line per file; return 1 if anything is."""
    check, files = CHECKS[arguments[0]], [Path(name) for name in arguments[1:]]
    problems = [f"{path}: {problem}" for path in files if path.is_file() and (problem := check(path))]
    print("\n".join(problems), end="\n" if problems else "")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
