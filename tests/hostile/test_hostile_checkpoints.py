"""Checkpoints, encoder folders and prepared stores that are damaged, absurd or malicious."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hostile.cases import Bad, data, edit, edit_bytes, refuse, swap, table, text

EXPORT = "export --ckpt a.ckpt --out e"
MARK = "touched-by-the-checkpoint"
ENCODER = {"class_path": "dmlm.models.ProbabilisticEncoder", "init_args": {}}


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(MARK),))


class Shell:
    """Runs a shell when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return (os.system, (f"touch {MARK}",))


def saved(content: object, old_format: bool = False) -> Callable[[], object]:
    return lambda: torch.save(content, "a.ckpt", _use_new_zipfile_serialization=not old_format)


def tensors(**more: object) -> dict[str, object]:
    return {"state_dict": {"encoder.x": torch.zeros(2)}, **more}


def cut(share: float) -> Callable[[], object]:
    def run() -> None:
        saved(tensors(hyper_parameters={"encoder": ENCODER}))()
        content = Path("a.ckpt").read_bytes()
        Path("a.ckpt").write_bytes(content[: int(len(content) * share)])

    return run


def bomb() -> None:
    """A checkpoint with a member that unpacks to a thousand times its size."""
    saved(tensors())()
    with zipfile.ZipFile("a.ckpt", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/bomb", b"\0" * (16 << 20))


def named(**hyper: object) -> Callable[[], object]:
    return saved(tensors(hyper_parameters=hyper))


def tower(**arguments: object) -> dict[str, object]:
    """An encoder whose image side has these arguments."""
    image = {
        "class_path": "dmlm.models.TimmImageEncoder",
        "init_args": {"model_name": "vit_tiny_patch16_224", "pretrained": False, "image_size": 32, **arguments},
    }
    return {"class_path": "dmlm.models.ProbabilisticEncoder", "init_args": {"image": image, "text": image}}


CHECKPOINTS = (
    Bad("a malicious pickle", EXPORT, "refused", saved(tensors(callbacks=Evil()))),
    Bad("a malicious shell", EXPORT, "refused", saved(tensors(callbacks=Shell()))),
    Bad("a malicious pickle in the old format", EXPORT, "a.ckpt", saved(tensors(callbacks=Evil()), old_format=True)),
    Bad("a malicious pickle that is all", EXPORT, "a.ckpt", data("a.ckpt", pickle.dumps(Evil()))),
    Bad("a malicious pickle to test", "test --ckpt a.ckpt", "refused", saved(tensors(callbacks=Evil()))),
    Bad("a malicious pickle to resume", "fit --ckpt a.ckpt", "refused", saved(tensors(callbacks=Evil()))),
    Bad(
        "a malicious pickle to predict",
        "predict --ckpt a.ckpt --images i.png --out p",
        "refused",
        lambda: (data("i.png", b"x")(), saved(tensors(callbacks=Evil()))()),
    ),
    Bad("a whole module", EXPORT, "refused", saved(torch.nn.Linear(2, 2))),
    Bad("an honest pickle", EXPORT, "a.ckpt", data("a.ckpt", pickle.dumps({"state_dict": {}}))),
    Bad("an old pickle", EXPORT, "a.ckpt", data("a.ckpt", pickle.dumps({"state_dict": {}}, 0))),
    Bad("a bomb", EXPORT, "would unpack to", bomb),
    Bad("nothing", EXPORT, "a.ckpt", data("a.ckpt", b"")),
    Bad("noise", EXPORT, "a.ckpt", data("a.ckpt", b"noise" * 1000)),
    Bad("a zip of other things", EXPORT, "a.ckpt", lambda: zipfile.ZipFile("a.ckpt", "w").writestr("a.txt", "x")),
    Bad("a head of a zip only", EXPORT, "a.ckpt", data("a.ckpt", b"PK\x03\x04")),
    Bad("a text", EXPORT, "a.ckpt", text("a.ckpt", "version https://git-lfs.github.com/spec/v1\n")),
    Bad("a web page", EXPORT, "a.ckpt", text("a.ckpt", "<html>404</html>")),
    Bad("a folder", "test --ckpt folder/a.ckpt", "checkpoint not found", text("folder/b.ckpt", "x")),
    Bad("the wrong name", "test --ckpt folder/a.ckpt", "has b.ckpt", text("folder/b.ckpt", "x")),
    *(Bad(f"cut off at {share}", EXPORT, "a.ckpt", cut(share)) for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)),
    Bad("a list", EXPORT, "has no 'state_dict'", saved([1, 2])),
    Bad("a number", EXPORT, "has no 'state_dict'", saved(5)),
    Bad("a tensor", EXPORT, "has no 'state_dict'", saved(torch.zeros(3))),
    Bad("weights alone", EXPORT, "has no 'state_dict'", saved({"encoder.x": torch.zeros(3)})),
    Bad("weights are a list", EXPORT, "has no 'state_dict'", saved({"state_dict": []})),
    Bad(
        "weights are words",
        EXPORT,
        "a.ckpt",
        saved({"state_dict": {"encoder.x": "y"}, "hyper_parameters": {"encoder": ENCODER}}),
    ),
    Bad(
        "weights have numbers as names",
        EXPORT,
        "a.ckpt",
        saved({"state_dict": {1: torch.zeros(1)}, "hyper_parameters": {"encoder": ENCODER}}),
    ),
    Bad("no encoder", EXPORT, "holds no encoder", saved(tensors())),
    Bad("hyper-parameters are a list", EXPORT, "a.ckpt", saved(tensors(hyper_parameters=[1]))),
    Bad("hyper-parameters are nothing", EXPORT, "a.ckpt", saved(tensors(hyper_parameters=None))),
    Bad("the encoder is text", EXPORT, "holds no encoder", named(encoder="x")),
    Bad("the encoder is no class", EXPORT, "cannot be imported", named(encoder={"class_path": "x"})),
    Bad("the encoder is of no package", EXPORT, "cannot be imported", named(encoder={"class_path": "nowhere.X"})),
    Bad(
        "the encoder is a function",
        EXPORT,
        "expected a ProbabilisticEncoder",
        named(encoder={"class_path": "os.system"}),
    ),
    Bad(
        "the encoder is a process",
        EXPORT,
        "expected a ProbabilisticEncoder",
        named(encoder={"class_path": "subprocess.Popen", "init_args": {"args": f"touch {MARK}"}}),
    ),
    Bad(
        "the encoder is the reader of pickles",
        EXPORT,
        "expected a ProbabilisticEncoder",
        named(encoder={"class_path": "pickle.Unpickler"}),
    ),
    Bad("the class path is a number", EXPORT, "a.ckpt", named(encoder={"class_path": 5})),
    Bad("the class path is relative", EXPORT, "a.ckpt", named(encoder={"class_path": "..x.Y"})),
    Bad("arguments are a list", EXPORT, "a.ckpt", named(encoder={**ENCODER, "init_args": [1]})),
    Bad(
        "an argument is nested evil",
        EXPORT,
        "a.ckpt",
        named(encoder={**ENCODER, "init_args": {"image": {"class_path": "os.system", "init_args": {"command": "x"}}}}),
    ),
    Bad(
        "an argument nobody takes",
        EXPORT,
        "does not take the recorded arguments",
        named(encoder={**ENCODER, "init_args": {"colour": 1}}),
    ),
    Bad("arguments are missing", EXPORT, "a.ckpt", named(encoder=ENCODER)),
    Bad("a model that nobody knows", EXPORT, "resnet9999", named(encoder=tower(model_name="resnet9999"))),
    Bad("an image of no pixels", EXPORT, "a.ckpt", named(encoder=tower(image_size=0))),
    Bad("an image of negative size", EXPORT, "a.ckpt", named(encoder=tower(image_size=-32))),
    Bad(
        "a width beyond all memory",
        EXPORT,
        "a.ckpt",
        named(encoder=tower(model_kwargs={"embed_dim": 3 * 2**20, "depth": 1})),
    ),
    Bad(
        "a newer format",
        EXPORT,
        "pip install --upgrade dmlm",
        saved(tensors(dmlm={"format": 99, "version": "9.0"}, hyper_parameters={"encoder": ENCODER})),
    ),
    Bad("a format that is text", EXPORT, "a.ckpt", saved(tensors(dmlm={"format": "x"}))),
    Bad("of no task", "test --ckpt a.ckpt", "was not written by a dmlm task", saved(tensors())),
    Bad("of a class that is text", "test --ckpt a.ckpt", "which cannot be imported", named(_class_path="x")),
    Bad("of another package", "test --ckpt a.ckpt", "cannot be imported", named(_class_path="nowhere.Task")),
    Bad("of a class that is no task", "test --ckpt a.ckpt", "is not a dmlm task", named(_class_path="os.PathLike")),
    Bad("of a function as class", "test --ckpt a.ckpt", "is not a dmlm task", named(_class_path="os.system")),
    Bad("of a class that is a number", "test --ckpt a.ckpt", "a.ckpt", named(_class_path=5)),
    Bad("of a relative class", "test --ckpt a.ckpt", "a.ckpt", named(_class_path="..x")),
)


def folder(config: object, weights: bytes | None = None) -> Callable[[], object]:
    def run() -> None:
        text("a/config.json", config if isinstance(config, str) else json.dumps(config))()
        if weights is not None:
            data("a/model.safetensors", weights)()

    return run


def header(content: object, length: int | None = None) -> bytes:
    coded = content if isinstance(content, bytes) else json.dumps(content).encode()
    return (len(coded) if length is None else length).to_bytes(8, "little") + coded


ABSURD = {"x": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 8]}}
FOLDER = "export --ckpt a --out e"
FOLDERS = (
    Bad("folder: nothing in it", FOLDER, "config.json is missing", lambda: Path("a").mkdir()),
    Bad("folder: no weights", FOLDER, "model.safetensors is missing", folder(ENCODER)),
    Bad("folder: no JSON", FOLDER, "a", folder("{", header({}))),
    Bad("folder: a list", FOLDER, "no class_path", folder([1], header({}))),
    Bad("folder: no class", FOLDER, "no class_path", folder({}, header({}))),
    Bad(
        "folder: another class",
        FOLDER,
        "expected a ProbabilisticEncoder",
        folder({"class_path": "os.system"}, header({})),
    ),
    Bad("folder: weights are nothing", FOLDER, "cannot be read", folder(ENCODER, b"")),
    Bad("folder: weights are noise", FOLDER, "cannot be read", folder(ENCODER, b"noise" * 99)),
    Bad("folder: weights are a pickle", FOLDER, "cannot be read", folder(ENCODER, pickle.dumps(Evil()))),
    Bad("folder: a header beyond the file", FOLDER, "cannot be read", folder(ENCODER, header({}, 2**60))),
    Bad("folder: a header that is no JSON", FOLDER, "cannot be read", folder(ENCODER, header(b"{x}"))),
    Bad("folder: absurd shapes", FOLDER, "cannot be read", folder(ENCODER, header(ABSURD) + b"\0" * 8)),
    Bad("folder: a newer format", FOLDER, "upgrade", folder({**ENCODER, "dmlm": {"format": 99}}, header({}))),
    Bad("folder: config is a folder", FOLDER, "config.json", lambda: Path("a/config.json").mkdir(parents=True)),
)


PREPARE = "data prepare . --dataset nih --size 16 --workers 1 --quiet --out s"


def store(change: Callable[[], object]) -> Callable[[], object]:
    """Make a store, then damage it."""

    def run() -> None:
        from dmlm.__main__ import main

        assert main(PREPARE.split()) == 0
        change()

    return run


def unfinished(change: Callable[[], object]) -> Callable[[], object]:
    """Make a store that looks as if it had been stopped, then damage it."""

    def run() -> None:
        store(lambda: None)()
        facts = json.loads(Path("s/store.json").read_text())
        Path("s/store.json").unlink()
        Path("s/plan.json").write_text(json.dumps(facts))
        change()

    return run


STORES = (
    Bad("store: header is no JSON", PREPARE, "store.json", store(text("s/store.json", "{"))),
    Bad("store: header is a list", PREPARE, "store.json", store(text("s/store.json", "[]"))),
    Bad("store: newer format", PREPARE, "upgrade", store(edit("s/store.json", swap('"format": 1', '"format": 9')))),
    Bad("store: of another size", PREPARE.replace("16", "32"), "choose another --out", store(lambda: None)),
    Bad(
        "store: of other images",
        PREPARE,
        "choose another --out",
        store(edit("s/store.json", swap('"fingerprint": "', '"fingerprint": "0'))),
    ),
    Bad("store: index has another header", PREPARE, "index.csv", store(edit("s/index.csv", swap("image", "picture")))),
    Bad(
        "store: index has a word for a number",
        PREPARE,
        "line 2 is damaged",
        store(edit("s/index.csv", swap(",0,0,", ",zero,0,"))),
    ),
    Bad("store: index is binary", PREPARE, "index.csv", store(data("s/index.csv", bytes(range(256)) * 4))),
    Bad("store: plan is no JSON", PREPARE, "plan.json", unfinished(text("s/plan.json", "{"))),
    Bad("store: plan is a list", PREPARE, "s", unfinished(text("s/plan.json", "[1]"))),
    Bad(
        "store: pixels are others",
        PREPARE,
        "differ from their checksum",
        unfinished(edit_bytes("s/pixels-00000.bin", lambda old: b"\xff" * len(old))),
    ),
    Bad("store: folder of other things", PREPARE, "holds other files", text("s/thesis.txt", "x")),
    Bad("store: an offset before the file", PREPARE, "s", unfinished(edit("s/index.csv", swap(",0,0,", ",0,-5,")))),
)
STORES = tuple(
    Bad(case.name, case.command, case.says, case.make, "nih", ("s/*",)) for case in STORES
)  # a store that is damaged stays as far as it was committed


@table(*CHECKPOINTS, *FOLDERS, *STORES)
def test_one_line(bad: Bad, bases, capsys: pytest.CaptureFixture[str]) -> None:
    refuse(bad, capsys, bases(bad.base))
    assert not Path(MARK).exists()


def test_the_table_bites() -> None:
    """What is refused above does run where nobody looks."""
    pickle.loads(pickle.dumps(Evil()))
    assert Path(MARK).exists()
