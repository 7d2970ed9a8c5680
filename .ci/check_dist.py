"""Does what is built hold what it must? ``python .ci/check_dist.py DIST`` (a wheel, maybe an sdist)."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

PROJECT = ("CHANGELOG.md", "LICENSE", "README.md", "cli.yaml", "pyproject.toml", "tests/conftest.py", "docs/conf.py")


def main(folder: Path) -> int:
    """Compare with the files of the repository; print what is wrong and return 1 if anything is."""
    listed = subprocess.run(["git", "ls-files", "dmlm"], capture_output=True, text=True, check=True).stdout.split()
    [wheel] = folder.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    found = {name for name in names if ".dist-info/" not in name}
    problems = [f"{wheel.name}: lacks {name}" for name in sorted(set(listed) - found)]
    problems += [f"{wheel.name}: holds {name}, which is not ours" for name in sorted(found - set(listed))]
    problems += [] if any(name.endswith("licenses/LICENSE") for name in names) else [f"{wheel.name}: has no licence"]
    for archive in folder.glob("*.tar.gz"):
        with tarfile.open(archive) as file:
            inside = {name.partition("/")[2] for name in file.getnames()}
        problems += [f"{archive.name}: lacks {name}" for name in sorted({*listed, *PROJECT} - inside)]
    print("\n".join(problems) or f"{wheel.name}: {len(found)} files, as in the repository")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
