"""Verbs of the command line that are no training: each module has ``run(argv) -> int | None``."""
