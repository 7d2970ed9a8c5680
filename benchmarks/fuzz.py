"""Fuzz campaign: does every reader return a value, or refuse with one line of our own?

``python -m benchmarks.fuzz [TARGET ...] --seconds N --seed S --json FILE``. Each target runs in a process of its own:
coverage-guided by atheris (libFuzzer) where it is installed (``pip install atheris``), otherwise by mutation of whole
files. A reader fails by any exception that is not of :mod:`dmlm.errors`, by a message of several lines, by more than
5 seconds or 3 GB for one input, or by killing the process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

from benchmarks.fuzz_targets import Target, targets
from dmlm.errors import DMLMError
from dmlm.io.atomic import write_json

SECONDS_AN_INPUT = 5
MEMORY = 3 << 30
LONGEST = 1 << 16


class TooSlow(BaseException):
    """The reader took too long; no handler of errors may catch that."""


def too_slow(*_: object) -> None:
    """Handle the signal of the clock.

    Raises:
        TooSlow: Always.
    """
    raise TooSlow


def attempt(target: Target, data: bytes, folder: Path) -> str | None:
    """Give a reader one input.

    Returns:
        None if it kept its promise, otherwise what it did.
    """
    path = folder / target.file
    path.write_bytes(data)
    signal.signal(signal.SIGVTALRM, too_slow)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS_AN_INPUT)  # of this process's own time: the machine may be busy
    try:
        target.read(path)
    except DMLMError as error:
        said = str(error)
        return f"{type(error).__name__} of several lines" if "\n" in said or not said or len(said) > 1500 else None
    except BaseException as error:  # that is what is looked for
        if isinstance(error, KeyboardInterrupt):
            raise
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "dmlm" in frame.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        return f"{type(error).__name__} at {place}: {str(error)[:150]}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return None


def mutate(data: bytes, others: list[bytes], words: tuple[bytes, ...], draw: random.Random) -> bytes:
    """Damage an input as disks, editors and attackers do: bits, bytes, cuts, repeats, splices and telling words."""
    changed = bytearray(data)
    for _ in range(1 << draw.randrange(4)):
        place, end = sorted(draw.randrange(len(changed) + 1) for _ in range(2))
        how = draw.randrange(7)
        if how == 0 and changed:
            changed[min(place, len(changed) - 1)] ^= 1 << draw.randrange(8)
        elif how == 1 and changed:
            changed[min(place, len(changed) - 1)] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))
        elif how == 2:
            del changed[place:end]
        elif how == 3:
            changed[place:place] = changed[place:end][:256] * draw.choice((1, 2, 16))
        elif how == 4:
            other = draw.choice(others)
            changed[place:end] = other[draw.randrange(len(other) + 1) :][: draw.randrange(1, 200)]
        elif how == 5:
            changed[place : place + draw.choice((0, 4))] = draw.choice(words or (b"\0",))
        else:
            changed = changed[:end]
    return bytes(changed[:LONGEST])


def fuzz(target: Target, seconds: float, seed: int) -> dict[str, object]:
    """Fuzz one target in this process; with atheris this does not return, the result is printed before."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    try:
        import atheris
    except ImportError:
        atheris = None
    failures: dict[str, str] = {}
    tried = 0
    folder = Path(tempfile.mkdtemp())
    # what the readers import while they read good files is what atheris watches
    with atheris.instrument_imports(include=["dmlm"]) if atheris else nullcontext():
        seeds = target.seeds()
        for data in seeds:
            said = attempt(target, data, folder)
            if said:
                failures[said] = repr(data[:200])
    started = time.monotonic()

    def one(data: bytes) -> None:
        nonlocal tried
        tried += 1
        said = attempt(target, bytes(data), folder)
        if said and len(failures) < 100:
            kept = Path(tempfile.gettempdir(), f"fuzz-{target.name}-{len(failures)}")
            failures.setdefault(said, str(kept))
            if failures[said] == str(kept):
                kept.write_bytes(data)
        if time.monotonic() - started > seconds:
            result = {"inputs": tried, "seconds": round(time.monotonic() - started), "failures": failures}
            print("RESULT " + json.dumps({**result, "engine": engine}), flush=True)
            os._exit(0)

    if atheris is None:
        engine, draw, grown = "mutation", random.Random(f"{seed}{target.name}"), list(seeds)
        while True:
            one(mutate(draw.choice(grown), grown, target.words, draw))
    engine = f"atheris {_version()}"
    corpus = Path(tempfile.mkdtemp())
    for number, data in enumerate(seeds):
        (corpus / str(number)).write_bytes(data)
    words = corpus.with_suffix(".dict")
    lines = ["".join(f"\\x{byte:02x}" for byte in word) for word in target.words]
    words.write_text("".join(f'"{line}"\n' for line in lines))
    options = [f"-seed={seed + 1}", f"-max_len={LONGEST}", "-rss_limit_mb=0", "-timeout=60", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, f"-dict={words}", str(corpus)], one)
    atheris.Fuzz()
    return {}


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("atheris")
    except PackageNotFoundError:
        return ""


def main() -> int:
    """Fuzz the targets one after the other; the exit status is the number of distinct failures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {target.name: target for target in targets()}
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(known))
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write inputs and failures of each target here")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = sorted(set(options.targets) - set(known))
    if unknown:
        parser.error(f"unknown target {unknown[0]}; known are {', '.join(known)}")
    if options.inside:
        fuzz(known[options.targets[0]], options.seconds, options.seed)
    results = {name: _apart(name, options.seconds, options.seed) for name in options.targets or known}
    if options.json:
        write_json(options.json, results)
    return sum(len(result["failures"]) for result in results.values())  # type: ignore[arg-type, misc]


def _apart(name: str, seconds: float, seed: int) -> dict[str, object]:
    command = [sys.executable, "-m", "benchmarks.fuzz", name, "--inside", f"--seconds={seconds}", f"--seed={seed}"]
    with tempfile.TemporaryDirectory() as place:
        environment = {**os.environ, "TMPDIR": place, "DMLM_CACHE": place}
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
    found = [line for line in run.stdout.splitlines() if line.startswith("RESULT ")]
    if found:
        result: dict[str, object] = json.loads(found[-1].removeprefix("RESULT "))
    else:
        result = {"inputs": 0, "failures": {f"exit status {run.returncode}": (run.stdout + run.stderr)[-1500:]}}
    print(f"{name}: {_told(result)}", flush=True)
    return result


def _told(result: dict[str, object]) -> str:
    failures: Iterable[str] = result["failures"]  # type: ignore[assignment]
    return f"{result['inputs']} inputs, {len(list(failures))} failures" + "".join(f"\n    {said}" for said in failures)


if __name__ == "__main__":
    sys.exit(main())
