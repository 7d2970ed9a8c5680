"""The command line: help, hints, one-line errors, what a run leaves behind, interrupts."""

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import doubles
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from dmlm import __version__
from dmlm.__main__ import main
from dmlm.cli.saving import RunRecord
from dmlm.errors import ConfigError

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
MODEL = ["--model", "TinyClassifier", "--model.encoder", "TinyEncoder", "--model.encoder.image", "TinyImage"]
FIT = ["fit", *MODEL, "--data", "TinyData", "--trainer.max_epochs=1", *QUIET]


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dmlm"])


def error_of(capsys, *arguments):
    assert main(list(arguments)) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_help_and_version(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for verb in ("fit", "validate", "test", "predict", "data"):
        assert f"\n  {verb} " in text
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dmlm {__version__}\n"
    assert main([]) == 2


def test_python_m_dmlm_reports_the_exit_status():
    command = [sys.executable, "-m", "dmlm", "fitt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "dmlm: error: unknown verb 'fitt'; did you mean 'fit'?\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--model", "TinyClasifier"], "model: 'TinyClasifier' is not a TaskModule; did you mean 'TinyClassifier'?"),
        (["--model", "TinyImage"], "model: 'TinyImage' is not a TaskModule"),
        (["--data", "TinyDat"], "data: 'TinyDat' is not a ChestXrayDataModule; did you mean 'TinyData'?"),
        ([*MODEL[:2], "--model.encoder=TinyEncodr"], "did you mean 'TinyEncoder'?"),
        ([*MODEL, "--model.encoder.image.widht=3"], "TinyImage has no option 'widht'; did you mean 'width'?"),
        ([*MODEL, "--model.encoder.image.width=abc"], "model.encoder.image.width: expected int, got abc"),
        ([*MODEL, "--model.optim.rl=3"], "model: unknown option 'optim.rl'; did you mean 'optim.lr'?"),
        (["--data.root=x"], "name a class before its options: --data NAME --data.OPTION VALUE"),
        (["--model.scale=3", *MODEL], "name a class before its options: --model NAME"),
        (["--trainer.max_epoch=3"], "unknown option 'trainer.max_epoch'; did you mean 'trainer.max_epochs'?"),
        (["--modl.scale=3"], "unknown option 'modl.scale'; did you mean 'model.scale'?"),
        (["--trainer.callbacks+=ModelChekpoint"], "did you mean 'ModelCheckpoint'?"),
        (["--trainer", "nope.yaml"], "trainer: 'nope.yaml' is neither a YAML file"),
        ([*MODEL, "--data=TinyData", "--trainer.check_val_every_n_epoch=0"], "must be a finite number of at least 1"),
        (["--config"], "--config needs a path"),
        (["--ckpt"], "--ckpt needs a path"),
        ([], "needs --data, --model"),
        (MODEL[:2], "TinyClassifier needs --model.encoder"),
        ([*MODEL, "--model.encoder.image.width=-1", "--data=TinyData"], "error: width must be positive, got -1"),
        ([*MODEL, "--model.optim.lr=-1", "--data=TinyData"], "error: optim.lr must be finite and not negative"),
        ([*MODEL, "--model.num_classes=3", "--data=TinyData"], "TinyData has num_classes=2, but TinyClassifier was"),
        ([*MODEL, "--data=TinyData", "--data.image_size=16"], "was built for image_size=8: set --data.image_size 8"),
    ],
)
def test_one_line_with_the_nearest_name(capsys, arguments, expected):
    main_arguments = ["fit", *arguments, "--trainer.accelerator=cpu", "--trainer.logger=false"]
    if arguments and arguments[-1] in ("--config", "--ckpt"):
        main_arguments = ["fit", *arguments]
    assert expected in error_of(capsys, *main_arguments)


def test_configuration_files_are_named(capsys):
    Path("run.yaml").write_text("trainer: {max_epochs: 1}")
    assert error_of(capsys, "fit", "-c", "rum.yaml").endswith("file not found: 'rum.yaml'; did you mean 'run.yaml'?")
    Path("bad.yaml").write_text("model:\n  a: 1\n b: [")
    assert "bad.yaml, line 3, column 2: not valid YAML" in error_of(capsys, "fit", "--config=bad.yaml")
    Path("wrong.yaml").write_text("modl: {a: 1}")
    assert "did you mean 'model" in error_of(capsys, "fit", "--config=wrong.yaml")


def test_what_a_constructor_raises_is_not_buried():
    with pytest.raises(ValueError, match=r"^thirteen is unlucky$"):
        main([*FIT, "--model.encoder.image.width=13"])


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("DMLM_DEBUG", "1")
    with pytest.raises(ConfigError, match="unknown verb"):
        main(["fitt"])


def test_fit_tests_afterwards_and_records_the_run():
    assert main(FIT) is None
    run = Path("lightning_logs/version_0")
    assert (run / "tested.txt").read_text() == "TinyClassifier"
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["class_path"] == "doubles.TinyClassifier"
    assert config["seed_everything"] == 0
    assert "ckpt" not in config
    versions = json.loads((run / "versions.json").read_text())
    assert versions["dmlm"] == __version__
    assert versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert set(versions) == {
        "python", "dmlm", "torch", "lightning", "timm", "transformers", "numpy", "git_commit", "platform", "command",
    }  # fmt: skip
    assert not list(run.glob("config_*"))
    # what fit wrote runs again, for any verb, in a folder of its own
    for number, verb in enumerate(("test", "validate", "predict"), start=1):
        assert main([verb, "--config", str(run / "config.yaml")]) is None
        assert [path.name for path in Path(f"lightning_logs/version_{number}").glob("config*")] == ["config.yaml"]


def test_verbs_in_one_folder_have_their_own_configuration():
    for verb in ("fit", "test", "validate"):
        command = [verb, *FIT[1:], "--trainer.logger=false", "--test_after_fit=false"]
        assert main(command) is None
        if verb == "fit":
            assert not Path("tested.txt").exists()
    assert {path.name for path in Path().glob("config*")} == {"config.yaml", "config_test.yaml", "config_validate.yaml"}
    assert main([*FIT, "--trainer.logger=false"]) is None  # again in the same folder


def test_no_test_set_and_no_test_after_a_trial_run():
    assert main([*FIT, "--data.with_test=false", "--trainer.logger=false"]) is None
    assert not Path("tested.txt").exists()


def test_the_best_weights_are_tested(monkeypatch):
    tested = []
    monkeypatch.setattr(Trainer, "test", lambda self, model, **options: tested.append(options))
    callbacks = ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.monitor=val_loss"]
    command = [*FIT, *callbacks, "--trainer.callbacks.mode=max", "--trainer.max_epochs=3", "--trainer.logger=false"]
    assert main([*command, "--model.optim.lr=0.001"]) is None
    [options] = tested
    assert Path(options["ckpt_path"]).name == "epoch=0-step=2.ckpt"  # val_loss falls, and the most was asked for
    assert options["weights_only"] is True


class Interrupt(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt


def test_interrupt_says_how_to_resume(capsys):
    before = signal.getsignal(signal.SIGINT)
    callbacks = ["--trainer.callbacks+=Interrupt", "--trainer.callbacks+=ModelCheckpoint"]
    command = [*FIT, "--trainer.max_epochs=3", *callbacks, "--trainer.callbacks.save_last=true"]
    try:
        assert main(command) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    run = Path("lightning_logs/version_0")
    expected = f"{(run / 'config.yaml').resolve()} --ckpt {(run / 'checkpoints/last.ckpt').resolve()}"
    assert last == f"dmlm: interrupted; resume with: dmlm fit --config {expected}"
    resume = last.partition("dmlm fit ")[2].split()
    Path(resume[1]).write_text(Path(resume[1]).read_text().replace("test_commands.Interrupt", "RichModelSummary"))
    assert main(["fit", *resume]) is None
    assert torch.load("lightning_logs/version_1/checkpoints/last.ckpt", weights_only=True)["epoch"] == 2


def test_the_newest_checkpoint_is_the_one_to_resume_from(tmp_path, capsys):
    for number, name in enumerate(("best.ckpt", "older.ckpt", "last.ckpt")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 + min(number, 1), 1000 + min(number, 1)))  # the second and third at once
    best = SimpleNamespace(last_model_path="", best_model_path=str(tmp_path / "best.ckpt"))
    last = SimpleNamespace(last_model_path=f"{tmp_path}/last.ckpt", best_model_path=f"{tmp_path}/older.ckpt")
    state = SimpleNamespace(fn="fit")
    trainer = SimpleNamespace(
        is_global_zero=True, state=state, checkpoint_callbacks=[best, last], default_root_dir=str(tmp_path)
    )
    RunRecord(None, None).on_exception(trainer, None, KeyboardInterrupt())
    assert capsys.readouterr().err.strip().endswith(f"--ckpt {tmp_path / 'last.ckpt'}")


def test_a_configuration_of_the_users_own_is_kept_and_the_hint_names_the_other(capsys):
    Path("config.yaml").write_text("# mine\n")
    before = signal.getsignal(signal.SIGINT)
    try:
        assert main([*FIT, "--trainer.logger=false", "--trainer.max_epochs=3", "--trainer.callbacks+=Interrupt"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert Path("config.yaml").read_text() == "# mine\n"
    assert yaml.safe_load(Path("config_fit.yaml").read_text())["model"]["class_path"] == "doubles.TinyClassifier"
    assert f"--config {Path('config_fit.yaml').resolve()} " in capsys.readouterr().err.splitlines()[-1] + " "


def test_untrained_weights_are_evaluated_with_a_warning():
    with pytest.warns(UserWarning, match="dmlm validate without --ckpt: these are the weights that the configuration"):
        assert main(["validate", *FIT[1:], "--trainer.logger=false"]) is None


def test_a_model_that_reads_a_checkpoint_itself_is_not_called_untrained(capsys):
    command = ["test", "--model", "UncertaintyModule", "--model.path", "gone.ckpt", "--data", "TinyData", *QUIET]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert "gone.ckpt" in error_of(capsys, *command)
    assert not [warning for warning in caught if "without --ckpt" in str(warning.message)]


@pytest.mark.parametrize("verb", ["fit", "test"])
@pytest.mark.parametrize("word", ["last", "best"])
def test_words_of_lightning_are_files_that_are_not_there(capsys, verb, word):
    error = error_of(capsys, verb, *FIT[1:], "--ckpt", word)
    assert error.startswith(f"dmlm: error: checkpoint not found: {word}")


def test_users_own_class_in_the_working_directory():
    Path("my_towers.py").write_text("from doubles import TinyImage\nclass MyTower(TinyImage):\n    '''Mine.'''\n")
    command = [*FIT, "--trainer.fast_dev_run=true", "--model.encoder.image=my_towers.MyTower"]
    try:
        assert main(command) is None
        assert "my_towers" in sys.modules
    finally:
        sys.modules.pop("my_towers", None)


def test_doubles_are_known_by_their_short_names():
    assert doubles.TinyClassifier.__name__ in FIT
