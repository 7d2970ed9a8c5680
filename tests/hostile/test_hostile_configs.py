"""Configurations as strangers, editors and scripts write them: no YAML, too much of it, options that cannot be."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from dmlm.errors import ConfigError, some_of
from dmlm.planning.shapes import read_shapes
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
    written("options are a list", "expected options of A", f"model: {{class_path: A, init_args: [1]}}\n{DATA}"),
    written("options are a word", "expected options of A", f"model: {{class_path: A, init_args: x}}\n{DATA}"),
    written("no encoder", "needs --model.encoder", f"model: {{class_path: DMLMPretrainModule}}\n{DATA}"),
    written("no root", "needs --data.root", f"{MODEL}data: {{class_path: RSNAPneumoniaDataModule}}\n"),
)


@table(*NO_YAML, *SECTIONS, *CLASSES)
def test_one_line(bad: Bad, capsys: pytest.CaptureFixture[str]) -> None:
    refuse(bad, capsys)


@pytest.mark.parametrize(
    "text",
    ["model: {init_args: text}\n", "model: {init_args: {objective: {masked_weight: '0.2('}}}\n", "trainer: text\n"],
)
def test_a_plan_of_values_of_the_wrong_kind(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"plan.yaml: an option has a value of the wrong kind"):
        read_shapes([tmp_path / "plan.yaml"])


def test_a_damaged_header_does_not_fill_the_screen() -> None:
    assert some_of(["a", "b"]) == "a, b"
    assert len(some_of(["x" * 1000] * 1000)) < 1000
    assert some_of(map(str, range(30))).endswith("18, 19, ...")


def test_a_name_with_escape_codes_does_not_reach_the_terminal() -> None:
    assert str(ConfigError("a\x1b[31m.csv:\nrow 3")) == "a\N{REPLACEMENT CHARACTER}[31m.csv: row 3"
