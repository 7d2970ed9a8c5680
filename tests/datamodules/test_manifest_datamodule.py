import csv
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image

from dmlm._config import build
from dmlm.datamodules import ChestXrayDataModule, ManifestDataModule
from dmlm.datasets import AugmentConfig, SampleKey
from dmlm.errors import CheckpointError, ConfigError, DatasetFormatError, DatasetNotFoundError, MismatchError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("DMLM_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def table(tmp_path):
    rows = [["path", "text", "split", "patient_id", "Edema", "kind"]]
    for number, split in enumerate(["train"] * 10 + ["val"] * 5 + ["test"] * 3):
        name = f"{number}.png"
        pixels = np.random.default_rng(number).integers(0, 256, (40, 36), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
        rows.append([name, f"Report {number}.", split, f"p{number}", str(number % 2), "ABC"[number % 3]])
    with (tmp_path / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return tmp_path / "data.csv"


def module(table, **options):
    defaults = {"image_size": 32, "batch_size": 4, "num_workers": 0, "label_columns": ["Edema"]}
    return ManifestDataModule(str(table), **{**defaults, **options})


class Recorder(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen = {"train": [], "val": [], "test": []}

    def keep(self, name, batch):
        self.seen[name].append((self.current_epoch, batch["index"].tolist(), batch["image"].float().mean().item()))
        return self.layer(batch["labels"][:, :1]).mean()

    def training_step(self, batch, batch_idx):
        assert all(report.source == "labels" for report in batch["report"])
        return self.keep("train", batch)

    def validation_step(self, batch, batch_idx):
        self.keep("val", batch)

    def test_step(self, batch, batch_idx):
        self.keep("test", batch)

    def predict_step(self, batch, batch_idx):
        return batch["study_id"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(folder, **options):
    return Trainer(
        accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, num_sanity_val_steps=0, **options,
    )  # fmt: skip


def test_constructor_touches_no_files():
    ManifestDataModule("/nowhere/data.csv")
    with pytest.raises(DatasetNotFoundError):
        ManifestDataModule("/nowhere/data.csv").setup("fit")


def test_facts_and_batches(table):
    data = module(table)
    with pytest.raises(ConfigError, match="setup"):
        _ = data.label_names
    with pytest.raises(ConfigError, match="setup"):
        data.val_dataloader()
    data.setup()
    assert (data.task, data.label_names, data.num_classes, data.image_size) == ("multilabel", ("Edema",), 1, 32)
    batches = list(data.train_dataloader())
    assert [len(batch["text"]) for batch in batches] == [4, 4]  # the incomplete one is dropped
    assert batches[0]["image"].shape == (4, 1, 32, 32)
    assert batches[0]["image"].dtype == torch.uint8
    assert [len(batch["text"]) for batch in data.val_dataloader()] == [4, 1]
    assert torch.cat([batch["index"] for batch in data.test_dataloader()]).tolist() == [0, 1, 2]


def test_probe_loader_is_complete_ordered_and_unvaried(table):
    data = module(table)
    data.setup("fit")
    batches = list(data.train_eval_dataloader())
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(10))
    plain = module(table, augment=False)
    plain.setup("fit")
    assert torch.equal(batches[0]["image"][2], plain.train_dataset[SampleKey(2, 3)]["image"])
    assert not torch.equal(batches[0]["image"][2], data.train_dataset[2]["image"])


def test_stages_open_only_what_they_need(table):
    data = module(table)
    data.setup("test")
    assert data.train_dataset is None
    first = data.test_dataset
    data.setup("fit")
    data.setup("test")
    assert data.test_dataset is first


def test_too_small_a_training_split_is_said(table):
    data = module(table, batch_size=16)
    data.setup("fit")
    with pytest.raises(ConfigError, match=r"10 samples, too few for one batch of 16.*batch_size to 10"):
        data.train_dataloader()


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"batch_size": 0}, "batch_size"), ({"num_workers": -1}, "num_workers"), ({"image_size": 0}, "image_size"),
     ({"augmentation": AugmentConfig(), "albumentations": []}, "not both")],
)  # fmt: skip
def test_impossible_options_are_refused(table, options, expected):
    with pytest.raises(ConfigError, match=expected):
        module(table, **options)


def test_tasks(table):
    data = module(table, task="binary")
    data.setup("fit")
    assert (data.task, data.num_classes) == ("binary", 1)
    data = module(table, label_columns=None, label_column="kind", task="multiclass")
    data.setup("fit")
    assert (data.label_names, data.train_dataset.labels[4].tolist()) == (("A", "B", "C"), [0.0, 1.0, 0.0])
    with pytest.raises(ConfigError, match="exactly one label, found 3"):
        module(table, label_columns=None, label_column="kind", task="binary").setup("fit")


def test_lightning_counts_the_epochs_for_the_sampler(table, tmp_path):
    model = Recorder()
    run = trainer(tmp_path, max_epochs=3, enable_checkpointing=False)
    run.fit(model, module(table))
    by_epoch = [[entry for entry in model.seen["train"] if entry[0] == epoch] for epoch in range(3)]
    assert [len(entries) for entries in by_epoch] == [2, 2, 2]
    assert by_epoch[0] != by_epoch[1]
    again = Recorder()
    trainer(tmp_path, max_epochs=3, enable_checkpointing=False).fit(again, module(table, num_workers=1))
    assert again.seen["train"] == model.seen["train"]  # worker processes change nothing, also beyond the first epoch
    assert [entry[1] for entry in model.seen["val"][:2]] == [[0, 1, 2, 3], [4]]
    assert [name for names in run.predict(model, module(table)) for name in names] == ["15.png", "16.png", "17.png"]


def test_checkpoint_rebuilds_the_data_module(table, tmp_path):
    data = module(
        table, augmentation=AugmentConfig(rotation=3.0), where={"split": ["train", "val"]}, ratios=(0.5, 0.5, 0)
    )
    run = trainer(tmp_path, max_epochs=1)
    run.fit(Recorder(), data)
    run.save_checkpoint(tmp_path / "a.ckpt")
    kept = torch.load(tmp_path / "a.ckpt", weights_only=True)["datamodule_hyper_parameters"]
    assert kept["_class_path"] == "dmlm.datamodules.ManifestDataModule"
    arguments = {key: value for key, value in kept.items() if not key.startswith("_")}
    bare = torch.load(tmp_path / "a.ckpt", weights_only=True)
    del bare["datamodule_hyper_parameters"]
    torch.save(bare, tmp_path / "bare.ckpt")
    with pytest.raises(CheckpointError, match=r"bare\.ckpt"):
        ManifestDataModule.load_from_checkpoint(tmp_path / "bare.ckpt")
    rebuilt = [
        build({"class_path": kept["_class_path"], "init_args": arguments}, ChestXrayDataModule),
        ChestXrayDataModule.load_from_checkpoint(tmp_path / "a.ckpt"),
        ManifestDataModule.load_from_checkpoint(tmp_path / "a.ckpt", batch_size=2),
    ]
    for copy, batch_size in zip(rebuilt, (4, 4, 2), strict=True):
        assert type(copy) is ManifestDataModule
        assert copy.batch_size == batch_size
        assert copy.augmentation == data.augmentation
        copy.setup("fit")
        data.setup("fit")
        assert torch.equal(copy.train_dataset[SampleKey(3, 2)]["image"], data.train_dataset[SampleKey(3, 2)]["image"])


def test_cached_images_train(table):
    data = module(table, cache_images=True)
    assert data.cache_size == 37
    data.prepare_data()
    data.setup("fit")
    assert next(iter(data.train_dataloader()))["image"].shape == (4, 1, 32, 32)
    assert data.auto_workers(16) == 1
    assert module(table).auto_workers(16) == 4
    assert module(table).auto_workers(1) == 0


def test_store_and_structured_reports_of_a_csv(table, tmp_path):
    from dmlm.__main__ import main

    store, reports = tmp_path / "store", tmp_path / "own.jsonl"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for place, row in enumerate(rows):  # an id as MIMIC writes it, which its reports lose
        row["study_id"] = f"s{50_000_000 + place}"
        row["text"] = "Small left pleural effusion. No pneumothorax."
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    assert main(["data", "prepare", str(table), "--out", str(store), "--size", "40", "--quiet"]) == 0
    assert main(["reports", "build", str(table), "--out", str(reports), "--id-column", "study_id"]) == 0
    plain = module(table)
    plain.setup("fit")
    images = [plain.train_dataset.read(place).image for place in range(3)]
    for row in rows:
        (table.parent / row["path"]).unlink()
    stored = module(table, store=str(store), reports=str(reports))
    stored.setup("fit")
    sample = stored.train_dataset.read(0)
    assert sample.report.verdicts == {"Pleural Effusion": "present", "Pneumothorax": "absent"}
    for place, image in enumerate(images):
        np.testing.assert_array_equal(stored.train_dataset.read(place).image, image)  # a store never enlarges
    with table.open("a", newline="") as file:
        csv.DictWriter(file, rows[0].keys()).writerow({**rows[0], "path": "other.png", "study_id": "x"})
    with pytest.raises(DatasetFormatError, match=r"image not in .*store \(run dmlm data prepare again\) in 1 row"):
        module(table, store=str(store)).setup("fit")
    with pytest.raises(ConfigError, match="both keep small copies"):
        module(table, store=str(store), cache_images=True, on_error="skip").setup("fit")


def test_structured_reports_of_another_csv_are_refused(table, tmp_path):
    from dmlm.__main__ import main

    (tmp_path / "other.csv").write_text("study_id,text\nanother,Clear lungs.\n")
    assert main(["reports", "build", str(tmp_path / "other.csv"), "--out", str(tmp_path / "other.jsonl")]) == 0
    with pytest.raises(DatasetFormatError, match=r"no report of any study of .*data.study_column"):
        module(table, reports=str(tmp_path / "other.jsonl")).setup("fit")


def rewrite(table, change):
    """Give every row a study and what ``change`` says about its place."""
    with table.open(newline="") as file:
        rows = [{**row, "study_id": f"s{n}", **change(n)} for n, row in enumerate(csv.DictReader(file))]
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def test_rows_without_text_use_their_labels_though_the_file_of_reports_has_them(table, tmp_path, caplog):
    from dmlm.__main__ import main
    from dmlm.reports import TextViews

    rewrite(table, lambda n: {"text": "" if n in (1, 12) else "No pneumothorax.", "No Finding": ""})
    reports = tmp_path / "own.jsonl"
    assert main(["reports", "build", str(table), "--out", str(reports), "--id-column", "study_id"]) == 0
    data = module(table, reports=str(reports), label_columns=["Edema", "No Finding"])
    data.prepare_data()
    assert "reports of 2 rows of" in caplog.text
    data.setup("fit")
    samples = [data.train_dataset.read(place) for place in range(2)]
    assert samples[0].report.verdicts == {"Pneumothorax": "absent"}
    assert samples[1].report.verdicts == {"Edema": "present"}
    for sample in samples:
        TextViews().sample(sample.report, sample.text, np.random.default_rng(0))

    # "maybe normal" is a label, but no statement: without text nothing could be read
    blank = {"Edema": "", "No Finding": "-1"}
    rewrite(table, lambda n: blank if n in (1, 12) else {"No Finding": ""})
    with pytest.raises(
        DatasetFormatError, match=r"no text, no observation in .* in 2 rows \(line 3, line 14\)"
    ) as caught:
        module(table, reports=str(reports), label_columns=["Edema", "No Finding"]).prepare_data()
    assert "\n" not in str(caught.value)
    kept = module(table, reports=str(reports), label_columns=["Edema", "No Finding"], on_error="skip")
    assert len(kept.manifest.rows) == 16


def test_grades_without_a_known_order_are_refused_by_the_grading_task(table, caplog):
    from dmlm.tasks import EdemaGradingModule

    def check(words, **options):
        rewrite(table, lambda n: {"kind": words[n % len(words)]})
        data = module(table, label_columns=None, label_column="kind", task="multiclass", **options)
        data.setup("fit")
        model = EdemaGradingModule.__new__(EdemaGradingModule)  # the check needs no encoder
        torch.nn.Module.__init__(model)
        model.task, model.num_classes, model.class_names = "multiclass", len(words), ()
        model.check_datamodule(data)
        return model.class_names

    assert check(["severe", "none", "mild", "moderate"]) == ("none", "mild", "moderate", "severe")
    assert "grades from the lowest to the highest: none, mild, moderate, severe" in caplog.text
    with pytest.raises(MismatchError, match=r'label_names "\[bad, fine\]", reordered from the lowest'):
        check(["fine", "bad"])
    caplog.clear()
    assert check(["fine", "bad"], label_names=["fine", "bad"]) == ("fine", "bad")
    assert check(["2", "0", "1"], label_names=[0, 1, 2]) == ("0", "1", "2")
    assert "grades from" not in caplog.text


def test_albumentations_from_plain_data(table):
    data = module(table, albumentations=[{"class_path": "albumentations.Rotate", "init_args": {"p": 1.0}}])
    data.setup("fit")
    train = data.train_dataset
    assert torch.equal(train[SampleKey(1, 1)]["image"], train[SampleKey(1, 1)]["image"])
    assert not torch.equal(train[SampleKey(1, 1)]["image"], train[SampleKey(1, 2)]["image"])


def test_problems_of_the_table_reach_the_user_in_setup(table):
    with pytest.raises(DatasetFormatError, match="did you mean 'Edema'"):
        module(table, label_columns=["Edemma"]).setup("fit")


def test_command_line_parser_takes_the_data_module(table):
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ChestXrayDataModule, "data")
    values = parser.parse_args(
        ["--data=ManifestDataModule", f"--data.path={table}", "--data.augmentation.rotation=4",
         "--data.label_columns=[Edema]", "--data.label_names=[0]", "--data.num_workers=auto",
         "--data.where={split: [train]}"]
    )  # fmt: skip
    data = parser.instantiate_classes(values).data
    assert isinstance(data, ManifestDataModule)
    assert data.augmentation == AugmentConfig(rotation=4.0)
    assert data.num_workers == "auto"
    assert data.form.where == {"split": ["train"]}
    assert data.form.label_names == ("0",)  # a grade, which the command line reads as a number


TWO_PROCESSES = """
import json, sys
import torch
from lightning.pytorch import LightningModule, Trainer
from dmlm.datamodules import ManifestDataModule

class Recorder(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.register_buffer("mean", torch.zeros(1))
        self.seen = {"train": [], "val": [], "steps": 0}
    def training_step(self, batch, _):
        self.seen["train"] += [[self.current_epoch, i] for i in batch["index"].tolist()]
        return self.layer(batch["labels"] - self.mean).mean()
    def validation_step(self, batch, _):
        self.seen["val"] += [[self.current_epoch, i] for i in batch["index"].tolist()]
        self.seen["steps"] += 1
    def on_validation_epoch_end(self):
        self.all_gather(torch.tensor(1.0))
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

if __name__ == "__main__":
    model = Recorder()
    data = ManifestDataModule(sys.argv[1], 32, 2, label_columns=["Edema"], num_workers=0)
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=2, logger=False,
                      enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False, num_sanity_val_steps=0)
    trainer.fit(model, data)
    open(f"{sys.argv[2]}/rank{trainer.global_rank}.json", "w").write(json.dumps(model.seen))
"""


@pytest.mark.slow
def test_two_processes_share_the_samples(table, tmp_path):
    (tmp_path / "run.py").write_text(textwrap.dedent(TWO_PROCESSES))
    command = [sys.executable, "run.py", str(table), str(tmp_path)]
    root = str(Path(__file__).parents[2])
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, check=True, timeout=240)
    seen = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    for epoch in range(2):
        train = [[i for e, i in one["train"] if e == epoch] for one in seen]
        assert [len(one) for one in train] == [4, 4]  # 10 samples: 5 a process, batches of 2
        assert not set(train[0]) & set(train[1])
        val = [[i for e, i in one["val"] if e == epoch] for one in seen]
        assert val == [[0, 2, 4], [1, 3]]  # every sample once; one process makes a step more and nothing stalls
    assert [one["steps"] for one in seen] == [4, 2]
    assert seen[0]["train"][:4] != seen[0]["train"][4:]
