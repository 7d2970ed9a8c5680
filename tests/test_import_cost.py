"""What is not used is not imported: the package, its help and its models start without heavy libraries."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("timm", "transformers", "segmentation_models_pytorch", "albumentations", "pandas", "cv2", "lightning")


def imported_after(statement, *names):
    """Which of ``names`` are in ``sys.modules`` after ``statement`` ran in a fresh interpreter."""
    code = f"import sys\n{statement}\nprint('\\n' + ' '.join(name for name in {names!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.rpartition("\n")[0].rpartition("\n")[2].split()


@pytest.mark.parametrize(
    "statement",
    [
        "import dmlm",
        "from dmlm.__main__ import main; main(['--help'])",
        "from dmlm.__main__ import main; main(['--version'])",
        "from dmlm.__main__ import main; main(['fitt'])",
        "import dmlm.reports",
        "import dmlm.io.atomic, dmlm.io.checkpoints",
        "import dmlm.commands.data",
        "from dmlm.__main__ import main; main(['plan', '--gpus', 'V100', '--images', '1000'])",
    ],
)
def test_no_torch(statement):
    assert imported_after(statement, "torch", "numpy" if "dmlm.__main__" in statement else "torch", *HEAVY) == []


def test_models_are_plain_torch():
    assert imported_after("import dmlm.models", *HEAVY) == []


def test_help_is_quick():
    command = [sys.executable, "-m", "dmlm", "--help"]
    best = float("inf")
    for _ in range(3):  # a busy machine may delay one of them
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        best = min(best, time.perf_counter() - start)
    assert done.stdout.startswith("usage: dmlm VERB")
    assert best < 0.5
