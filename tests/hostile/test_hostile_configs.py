"""Configurations as strangers, editors and scripts write them: no YAML, too much of it, options that cannot be."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from hostile.cases import Bad, data, refuse, table, text

FIT = "fit --config x.yaml"
WHOLE = (Path(__file__).parents[2] / "cli.yaml").read_text(encoding="utf-8")
TRAINER = WHOLE[WHOLE.index("trainer:\n") : WHOLE.index("model:\n")]
MODEL = WHOLE[WHOLE.index("model:\n") : WHOLE.index("data:\n")]
ENCODER = MODEL[MODEL.index("    encoder:") : MODEL.index("    predictor:")]
DATA = WHOLE[WHOLE.index("data:\n") :]


def written(name: str, says: str, content: str | bytes) -> Bad:
    return Bad(name, FIT, says, (data if isinstance(content, bytes) else text)("x.yaml", content))  # type: ignore[operator]


def changed(name: str, says: str, old: str, new: str) -> Bad:
    """The default run with one thing changed."""
    assert old in WHOLE, f"{old!r} is not in cli.yaml"
    return Bad(name, FIT, says, text("x.yaml", WHOLE.replace(old, new, 1)))


def laughs(first: str, rest: str) -> str:
    """Nine lists, each of nine times the one before: a billion values in a few lines."""
    names = "abcdefghi"
    steps = [rest.format(new=new, old=",".join([f"*{old}"] * 9)) for old, new in pairwise(names)]
    return first + "".join(steps)


NO_YAML = (
    written("empty", "x.yaml is empty", ""),
    written("a comment only", "x.yaml is empty", "# trainer: {}\n"),
    written("a mark only", "x.yaml is empty", "---\n"),
    written("null", "x.yaml is empty", "null\n"),
    written("a list", "holds list", "- trainer\n- model\n"),
    written("a word", "holds str 'hello'", "hello\n"),
    written("a number", "holds int '5'", "5\n"),
    written("a web page", "x.yaml", "<html>\n<body>404: not found</body></html>\n"),
    written("a pointer of Git LFS", "x.yaml", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    written("Python", "x.yaml", "import os\nos.remove('a')\n"),
    written("a tab", "line 2, column 1", "trainer:\n\tmax_epochs: 1\n"),
    written("two documents", "another document", f"{WHOLE}\n---\n{WHOLE}"),
    written("an open bracket", "x.yaml, line", "trainer: [1, 2\nmodel: 5\n"),
    written("an open brace", "line 2", "trainer: {max_epochs: 1\nmodel: x\n"),
    written("an open quote", "line", WHOLE.replace('"best"', '"best', 1)),
    written("wrong indentation", "line 3", "trainer:\n    max_epochs: 1\n  devices: 1\n"),
    written("two colons", "line 1, column 20", "trainer: max_epochs: 1\n"),
    written("a merge of text", "line 1", "trainer: {<<: hello}\n"),
    written("a directive of another version", "line 1", "%YAML 9.1\n---\ntrainer: {}\n"),
    written("noise", "no text in UTF-8", bytes(range(128, 256)) * 4),
    written("zeros", "not a YAML file", b"\0" * 64),
    written("a bell", "not a YAML file", "trainer:\n  max_epochs: \x07\n"),
    written("Latin-1", "no text in UTF-8", b"trainer: {max_epochs: 1}  # \xe9\n"),
    written("UTF-16", "no text in UTF-8", WHOLE.encode("utf-16")),
    written("a zero inside", "not a YAML file", WHOLE.replace("best", "be\0st", 1)),
    written("a key twice", "there already in line 1", "trainer: {max_epochs: 1}\nmodel: A\ntrainer: {devices: 1}\n"),
    changed(
        "a nested key twice", "'devices' is there already in line 8", "  devices: auto", "  devices: 1\n  devices: 2"
    ),
    written("contains itself", "contains itself", "trainer: &a\n  callbacks: *a\n"),
    written("is itself", "contains itself", "&a\nmodel: *a\n"),
    written("contains itself in a list", "contains itself", "trainer: {callbacks: &a [1, [2, *a]]}\n"),
    written("an alias of nothing", "undefined alias", "trainer: *nothing\n"),
    written("a billion values", "unfolds to more", laughs("a: &a [1,1,1,1,1,1,1,1,1]\n", "{new}: &{new} [{old}]\n")),
    written(
        "a billion callbacks",
        "unfolds to more",
        laughs("trainer:\n  callbacks:\n  - &a [1,1,1,1,1,1,1,1,1]\n", "  - &{new} [{old}]\n"),
    ),
    written("a billion merges", "unfolds to more", laughs("a: &a {k: 1}\n", "{new}: &{new} {{<<: [{old}]}}\n")),
    written("nested 60 deep", "nested more than 40 deep", f"trainer: {'[' * 60}{']' * 60}\n"),
    written("nested 5,000 deep", "nested far too deep", f"trainer: {'[' * 5000}{']' * 5000}\n"),
    written("mappings 5,000 deep", "nested far too deep", f"trainer: {'{a: ' * 5000}1{'}' * 5000}\n"),
    written("8 MB", "holds more than 1,048,576 bytes", f"trainer: '{'x' * (8 << 20)}'\n"),
    written("an anchor of 500 KB", "no_such", f"no_such_option: &{'a' * 500_000} 1\n"),
    written("an object of Python", "constructor", "trainer: !!python/object/apply:os.system ['touch touched']\n"),
    written("a name of Python", "constructor", "model: !!python/name:os.system\n"),
    written("a module of Python", "constructor", "model: !!python/module:antigravity\n"),
    written("a new object of Python", "constructor", "model: !!python/object/new:os.system [touch touched]\n"),
    written("an unknown tag", "'!mine'", "trainer: !mine {max_epochs: 1}\n"),
    written("a number that is none", "read as int", "seed_everything: !!int abc\n"),
    written("a number that is blank", "read as int", "seed_everything: !!int ''\n"),
    written("a float that is none", "read as float", "seed_everything: !!float abc\n"),
    written("a boolean that is none", "read as bool", "seed_everything: !!bool abc\n"),
    written("5,000 digits", "read as int", f"seed_everything: {'9' * 5000}\n"),
    written("bytes that are none", "line 1", "seed_everything: !!binary '*'\n"),
    written("a list as a key", "unhashable key", "? [a, b]\n: 1\n"),
    written("a number as a key", "must be a string", "1: 2\n"),
    written("null as a key", "must be a string", "~: 2\n"),
)

SECTIONS = (
    written("no data", "needs --data", TRAINER + MODEL),
    written("no model", "needs --model", TRAINER + DATA),
    written("nothing but a seed", "needs --", "seed_everything: 0\n"),
    written("trainer is a list", "trainer: expected a section", f"trainer: [1, 2]\n{MODEL}{DATA}"),
    written("trainer is a number", "trainer: expected a section", f"trainer: 5\n{MODEL}{DATA}"),
    written("trainer is nothing", "trainer: expected a section", f"trainer:\n{MODEL}{DATA}"),
    written("trainer is a word", "neither a YAML file nor a section", f"trainer: hello\n{MODEL}{DATA}"),
    written("trainer is a file that is not there", "'no.yaml'", f"trainer: no.yaml\n{MODEL}{DATA}"),
    written("model is a list", "model: expected a section", f"{TRAINER}model: [1]\n{DATA}"),
    written("model is a number", "model: expected a section", f"{TRAINER}model: 5\n{DATA}"),
    written("model is a word", "'big' is not a TaskModule", f"{TRAINER}model: big\n{DATA}"),
    written("data is a list", "data: expected a section", f"{TRAINER}{MODEL}data: [1]\n"),
    written("data is a word", "'mine' is not a ChestXrayDataModule", f"{TRAINER}{MODEL}data: mine\n"),
    written("an unknown section", "did you mean 'trainer.max_epochs'?", "trainr: {max_epochs: 2}\n"),
    written("all inside a verb", "unknown option 'fit.", "fit:\n  trainer: {max_epochs: 1}\n"),
    written("a checkpoint", "--ckpt PATH", f"{WHOLE}\nckpt: x.ckpt\n"),
    Bad("the file is not there", "fit --config y.yaml", "did you mean 'x.yaml'?", text("x.yaml", WHOLE)),
    Bad("the file is a folder", "fit --config x", "not found", text("x/y.yaml", WHOLE)),
    Bad("no file", "fit --config", "--config needs a path"),
    Bad("a second file is no YAML", f"{FIT} --config y.yaml", "y.yaml, line 1", lambda: both("trainer: [\n")),
    Bad("a section's file is no YAML", f"{FIT} --trainer y.yaml", "y.yaml, line 1", lambda: both("max_epochs: [\n")),
    Bad("a section's file contains itself", f"{FIT} --trainer y.yaml", "contains itself", lambda: both("a: &a [*a]\n")),
)


def both(second: str) -> None:
    text("x.yaml", WHOLE)()
    text("y.yaml", second)()


CLASSES = (
    changed("class of the model", "did you mean 'DMLMPretrainModule'?", "DMLMPretrainModule", "DMLMPretrainModul"),
    changed("class of the data", "did you mean 'PhantomDataModule'?", "PhantomDataModule", "FantomDataModule"),
    changed(
        "class of the encoder", "did you mean 'ProbabilisticEncoder'?", "ProbabilisticEncoder", "ProbabilisticCoder"
    ),
    changed("class of the images", "did you mean 'TimmImageEncoder'?", "TimmImageEncoder", "TimImageEncoder"),
    changed("class of a logger", "did you mean 'TensorBoardLogger'?", "TensorBoardLogger", "TensorboardLogger"),
    changed("class of a callback", "did you mean 'ModelCheckpoint'?", "ks.ModelCheckpoint", "ks.ModelCheckpont"),
    changed("a function of os", "os.system does not correspond", "DMLMPretrainModule", "os.system"),
    changed("a built-in", "builtins.exec does not correspond", "DMLMPretrainModule", "builtins.exec"),
    changed("data as model", "'PhantomDataModule' is not a TaskModule", "DMLMPretrainModule", "PhantomDataModule"),
    changed("model as data", "is not a ChestXrayDataModule", "PhantomDataModule", "DMLMPretrainModule"),
    changed("text as image", "'HFTextEncoder' is not what is expected", "TimmImageEncoder", "HFTextEncoder"),
    changed("abstract", "name a class before its options", "DMLMPretrainModule", "dmlm.tasks.base.TaskModule"),
    changed(
        "a number as class", "expected the name of a class, got '5'", "class_path: DMLMPretrainModule", "class_path: 5"
    ),
    changed("nothing as class", "expected the name", "class_path: DMLMPretrainModule", "class_path:"),
    changed("a list as class", "expected the name", "class_path: DMLMPretrainModule", "class_path: [a]"),
    changed("blank as class", "expected the name", "class_path: DMLMPretrainModule", "class_path: ''"),
    changed("a number as nested class", "model.encoder.", "class_path: ProbabilisticEncoder", "class_path: 5"),
    written("options are a list", "expected options of A", f"model: {{class_path: A, init_args: [1]}}\n{DATA}"),
    written("options are a word", "expected options of A", f"model: {{class_path: A, init_args: x}}\n{DATA}"),
    written("no encoder", "needs --model.encoder", f"model: {{class_path: DMLMPretrainModule}}\n{DATA}"),
    written("no root", "needs --data.root", f"{MODEL}data: {{class_path: RSNAPneumoniaDataModule}}\n"),
    written(
        "root is not there",
        "nowhere: no such folder",
        f"{MODEL}data: {{class_path: RSNAPneumoniaDataModule, init_args: {{root: nowhere, image_size: 80}}}}\n",
    ),
    written(
        "CSV is not there",
        "no.csv: no such file",
        f"{MODEL}data: {{class_path: ManifestDataModule, init_args: {{path: no.csv, image_size: 80}}}}\n",
    ),
)

OPTIONS = (
    changed("trainer: unknown option", "did you mean 'trainer.max_epochs'?", "max_epochs", "max_epoch"),
    changed("trainer: epochs are a word", "max_epochs: expected int, got many", "max_epochs: 1", "max_epochs: many #"),
    changed("trainer: epochs are a fraction", "expected int, got 1.5", "max_epochs: 1", "max_epochs: 1.5 #"),
    changed("trainer: epochs are a list", "expected int, got [1]", "max_epochs: 1", "max_epochs: [1] #"),
    changed("trainer: negative epochs", "max_epochs", "max_epochs: 1", "max_epochs: -5 #"),
    changed("trainer: unknown accelerator", "accelerator='gpuu'", "accelerator: auto", "accelerator: gpuu"),
    changed("trainer: no devices", "devices", "devices: auto", "devices: 0"),
    changed("trainer: negative devices", "devices", "devices: auto", "devices: -3"),
    changed("trainer: unknown precision", "got 33-true", "32-true", "33-true"),
    changed("trainer: unknown strategy", "strategy='dpp'", "strategy: auto", "strategy: dpp"),
    changed("trainer: option of a logger", "did you mean 'save_dir'?", "save_dir: runs", "savedir: runs"),
    changed("trainer: folder is a list", "trainer.logger.save_dir", "save_dir: runs", "save_dir: [1]"),
    changed("trainer: option of a callback", "did you mean 'mode'?", "mode: max", "modus: max"),
    changed("trainer: mode of a callback", "got maxx", "mode: max", "mode: maxx"),
    changed("trainer: interval", "val_check_interval", "log_every_n_steps: 20", "val_check_interval: 5.5"),
    changed("trainer: negative limit", "limit_train_batches", "log_every_n_steps: 20", "limit_train_batches: -3"),
    changed("trainer: no accumulation", "at least 1, got 0", "log_every_n_steps: 20", "accumulate_grad_batches: 0"),
    changed("trainer: logs never", "log_every_n_steps must be", "log_every_n_steps: 20", "log_every_n_steps: -1"),
    changed("trainer: no nodes", "num_nodes", "log_every_n_steps: 20", "num_nodes: 0"),
    changed(
        "trainer: clip is a word",
        "expected int or float, got hard",
        "gradient_clip_val: 1.0",
        "gradient_clip_val: hard",
    ),
    changed("trainer: clip is nan", "gradient_clip_val must be", "gradient_clip_val: 1.0", "gradient_clip_val: .nan"),
    changed(
        "trainer: clip is infinite", "gradient_clip_val must be", "gradient_clip_val: 1.0", "gradient_clip_val: .inf"
    ),
    changed("trainer: negative clip", "gradient_clip_val must be", "gradient_clip_val: 1.0", "gradient_clip_val: -1"),
    changed("negative seed", "seed_everything must be 0 to", "seed_everything: 0", "seed_everything: -1"),
    changed("huge seed", "seed_everything must be 0 to", "seed_everything: 0", "seed_everything: 4294967296"),
    changed("seed is a word", "expected bool or int, got x", "seed_everything: 0", "seed_everything: x"),
    changed("seed is a date", "got 2026-99-99", "seed_everything: 0", "seed_everything: 2026-99-99"),
    changed("test_after_fit is a word", "expected bool, got maybe", "seed_everything: 0", "test_after_fit: maybe"),
    changed("model: unknown option", "did you mean 'center_statements'?", "center_statements", "centre_statements"),
    changed("model: rate is a word", "model.optim.lr: expected float", "lr: 3.0e-3,", "lr: fast,"),
    changed("model: negative rate", "optim.lr must be finite", "lr: 3.0e-3,", "lr: -1,"),
    changed("model: rate is nan", "optim.lr must be finite", "lr: 3.0e-3,", "lr: .nan,"),
    changed("model: rate is infinite", "optim.lr must be finite", "lr: 3.0e-3,", "lr: .inf,"),
    changed("model: betas of one", "2 elements", "min_lr: 1.0e-5", "betas: [0.9]"),
    changed("model: betas too large", "optim.betas must lie in [0, 1)", "min_lr: 1.0e-5", "betas: [1.9, 2]"),
    changed("model: optim is a list", "model.optim: expected a section", "optim: {lr: 3.0e-3,", "optim: [1] #"),
    changed("model: unknown rate", "'minlr'", "min_lr: 1.0e-5", "minlr: 1.0e-5"),
    changed("model: share above 1", "masked_start must be", "masked_start: 0.6", "masked_start: 1.6"),
    changed("model: unknown objective", "did you mean 'objective.masked_start'?", "masked_start", "mask_start"),
    changed("model: probability above 1", "statement_views must be", "statement_views: 0.9", "statement_views: 9"),
    changed(
        "model: unknown part of a report", "section_dropout names 'definiton'", "definition: 0.7", "definiton: 0.7"
    ),
    changed(
        "encoder: unknown option",
        "did you mean 'embed_dim'?",
        "embed_dim: 64\n        head",
        "embeddim: 64\n        head",
    ),
    changed("encoder: no width", "at least 1, got 0", "embed_dim: 64\n        head", "embed_dim: 0\n        head"),
    changed(
        "encoder: negative width", "at least 1, got -8", "embed_dim: 64\n        head", "embed_dim: -8\n        head"
    ),
    changed("encoder: unknown head", "'attn', 'mlp'", "head: mlp", "head: mpl"),
    changed("encoder: no heads", "num_heads must be even", "head: mlp", "head: attn\n        num_heads: 0"),
    changed("encoder: range turned round", "logvar_init must lie inside", "head: mlp", "logvar_range: [3, 1]"),
    changed("encoder: range of one", "2 elements", "head: mlp", "logvar_range: [3]"),
    changed("encoder is a word", "'big' is not a class", ENCODER, "    encoder: big\n"),
    changed("images: unknown model", "timm has no model 'test_resnett'", "test_resnet", "test_resnett"),
    changed(
        "images: size is a word",
        "image_size: expected int",
        "image_size: 80\n            model",
        "image_size: big\n            model",
    ),
    changed(
        "images: size 0",
        "at least 1 pixel, got 0",
        "image_size: 80\n            model",
        "image_size: 0\n            model",
    ),
    changed(
        "images: negative size",
        "at least 1 pixel, got -80",
        "image_size: 80\n            model",
        "image_size: -80\n            model",
    ),
    changed("images: unknown option of timm", "'output_strid'", "output_stride: 16", "output_strid: 16"),
    changed("images: impossible option of timm", "timm cannot build", "output_stride: 16", "output_stride: 5"),
    changed(
        "images: options of timm are a list",
        "expected dict, got [1]",
        "model_kwargs: {output_stride: 16}",
        "model_kwargs: [1]",
    ),
    changed("images: no deviation", "std above 0", "model_kwargs: {output_stride: 16}", "std: 0"),
    changed("text: unknown architecture", "model_type 'brt'", "model_type: bert", "model_type: brt"),
    changed("text: width is a word", "expected int, got str", "hidden_size: 64", "hidden_size: many"),
    changed("text: width is nothing", "'hidden_size' expected int", "hidden_size: 64", "hidden_size: null"),
    changed("text: negative width", "transformers cannot build", "hidden_size: 64", "hidden_size: -64"),
    changed("text: heads do not divide", "attention heads (5)", "num_attention_heads: 4", "num_attention_heads: 5"),
    changed("text: no heads", "transformers cannot build", "num_attention_heads: 4", "num_attention_heads: 0"),
    changed("text: unknown tokenizer", "'libary' is no file", "tokenizer: library", "tokenizer: libary"),
    changed("text: unknown pooling", "'cls', 'mean'", "pooling: mean", "pooling: men"),
    changed("text: no length", "max_length must be at least 3", "max_length: 96", "max_length: 0"),
    changed("predictor: another width", "predictor.embed_dim (32)", "{embed_dim: 64, width", "{embed_dim: 32, width"),
    changed("predictor: heads do not divide", "num_heads (7)", "depth: 1, num_heads: 4", "depth: 1, num_heads: 7"),
    changed("predictor: no heads", "num_heads (0)", "depth: 1, num_heads: 4", "depth: 1, num_heads: 0"),
    changed("data: unknown option", "did you mean 'num_train'?", "num_train", "num_trian"),
    changed("data: negative patients", "0 or more patients", "num_train: 1500", "num_train: -8"),
    changed("data: patients are a word", "expected int, got x", "num_train: 1500", "num_train: x"),
    changed(
        "data: patients of the environment", "expected int, got ${", "num_train: 1500", "num_train: ${oc.env:HOME}"
    ),
    changed("data: batch of 0", "batch_size must be at least 1", "batch_size: 32", "batch_size: 0"),
    changed("data: negative batch", "batch_size must be at least 1", "batch_size: 32", "batch_size: -1"),
    changed("data: negative workers", "num_workers must be", "batch_size: 32", "num_workers: -1"),
    changed("data: fraction above 1", "fraction must be above 0", "batch_size: 32", "fraction: 2"),
    changed("data: tiny images", "at least 32 pixels", "image_size: 80\n    batch", "image_size: 3\n    batch"),
)


@table(*NO_YAML, *SECTIONS, *CLASSES, *OPTIONS)
def test_one_line(bad: Bad, capsys: pytest.CaptureFixture[str]) -> None:
    refuse(bad, capsys)
