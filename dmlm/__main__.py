"""The `dmlm` command: answers ``--help`` at once, sends verbs on, and turns errors into one line."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from dmlm import __version__
from dmlm.errors import ConfigError, DMLMError, system_error

TRAINER_VERBS = ("fit", "validate", "test", "predict")
COMMANDS = ("data", "reports", "reproduce", "export", "plan")
VERBS = (*TRAINER_VERBS, *COMMANDS)

HELP = """\
usage: dmlm VERB [options]

Distribution-based masked medical vision-language pre-training with structured reports.

Train and evaluate (a Lightning Trainer; every option can be in a YAML file):
  fit        train: pre-train, fine-tune, or resume a run; tests the best weights at the end
  validate   run the validation set
  test       run the test set; writes metrics.json and predictions.csv into the run folder
  predict    predict the test set of a data module; with --images, a folder of image or DICOM files

Prepare:
  data       prepare, check and synthesize data sets (dmlm data --help)
  reports    structure free-text reports: build, show, stats, check (dmlm reports --help)

Plan and reproduce:
  plan       hours, memory and bottleneck of a pre-training on GPUs that you name (dmlm plan --help)
  reproduce  run or resume what the paper's tables need, and write them (dmlm reproduce --help)
  export     take the encoder out of a checkpoint: a folder with a model card, ONNX (dmlm export --help)

Start here:
  dmlm fit --config cli.yaml                       pre-train on synthetic radiographs, on any machine, in minutes
  dmlm fit --config cli.yaml --trainer.max_epochs 10 --data.batch_size 16
  dmlm fit --config RUN/config.yaml --ckpt RUN/checkpoints/last.ckpt      resume a run
  dmlm test --ckpt RUN/checkpoints/last.ckpt       model and data come from the checkpoint
  dmlm test --config zero_shot.yaml --ckpt pretrain.ckpt      another task, with the checkpoint's encoder

Where a value comes from (later wins):
  defaults, data of --ckpt, --config files, model of --ckpt, options on the command line.

More:
  dmlm fit --help                   options of the trainer, the model and the data
  dmlm fit --model.help NAME        options of one class, e.g. DMLMPretrainModule
  dmlm fit --config F --print_config     the resolved configuration
  --ckpt resumes or evaluates a run; to start a new run from a pre-trained encoder use
  --model.encoder dmlm.models.from_pretrained --model.encoder.path pretrain.ckpt
  DMLM_DEBUG=1 shows the traceback behind an error.

  -h, --help     show this text
  --version      show the version
"""


def main(argv: Sequence[str] | None = None) -> int | None:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        Exit status: None or 0 when all went well, 2 after an error that the user can mend, 130 after an interrupt.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _dispatch(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # "... | head": the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (DMLMError, OSError, MemoryError) as error:
        line = _line(error)
        if line is None or os.environ.get("DMLM_DEBUG"):
            raise
        print(f"dmlm: error: {' '.join(line.split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dmlm: interrupted", file=sys.stderr)
        return 130
    return status


def _line(error: Exception) -> str | None:
    """Return what an error says to the user; None where it is a fault of ours, which needs its traceback."""
    if isinstance(error, MemoryError):
        return "out of memory; use fewer workers, smaller batches or images (DMLM_DEBUG=1 shows where)"
    if isinstance(error, OSError) and not isinstance(error, DMLMError):
        return system_error(error)
    return str(error)


def _dispatch(arguments: list[str]) -> int | None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0 if arguments else 2
    verb = arguments[0]
    if verb == "--version":
        print(f"dmlm {__version__}")
        return 0
    if verb not in VERBS:
        raise ConfigError(_unknown_verb(verb))
    _let_threads_sleep()
    folder = str(Path.cwd())
    if folder not in sys.path:  # a console script does not have it; a user's own classes live there
        sys.path.append(folder)
    files = any(word.partition("=")[0] == "--images" for word in arguments)
    if verb in COMMANDS or (verb == "predict" and files):
        command = import_module(f"dmlm.commands.{verb}")
        return command.run(arguments[1:])  # type: ignore[no-any-return]
    from dmlm import cli

    return cli.main(arguments)


def _let_threads_sleep() -> None:
    """Have OpenMP's threads fall asleep soon after they start to wait, unless the user chose how they wait.

    By default they wait in a loop for milliseconds. Beside another program that takes the core from the thread that
    is waited for: a step of the default run took 2.9 s on two cores instead of 0.4 s; alone it loses 3 %. The library
    reads the variable when torch is loaded, so this comes first.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _unknown_verb(verb: str) -> str:
    if verb.startswith("-"):
        return f"a verb comes first ({', '.join(VERBS)}), got the option '{verb}'; see dmlm --help"
    near = difflib.get_close_matches(verb, VERBS, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(VERBS)}"
    return f"unknown verb '{verb}'; {hint}"


if __name__ == "__main__":
    sys.exit(main())
