"""A process that does one run after another, so that torch is imported once and not once per run.

Started by :mod:`dmlm.reproduce.runner` as ``python -m dmlm.reproduce.worker OUT``: it reads one run a line (JSON) from
standard input and answers each with one line on its first standard output. What runs print goes to their ``log.txt``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

from dmlm.reproduce.plan import Run
from dmlm.reproduce.runs import folder_of, perform


def main(out: Path) -> int:
    """Serve until the input ends.

    Returns:
        0, or 130 after an interrupt.
    """
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    for line in sys.stdin:
        asked = json.loads(line)
        run = Run(**{**asked, "needs": tuple(asked["needs"])})
        log = folder_of(out, run.name) / "log.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            try:
                status = perform(run, out)
            except (KeyboardInterrupt, SystemExit):
                return 130
            sys.stdout.flush()
            sys.stderr.flush()
        answers.write(json.dumps(asdict(status)) + "\n")
        answers.flush()
    return 0


def _end_with_parent(parent: int) -> None:
    """End this process when the one that started it is gone: nobody would read its answer."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(143)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
