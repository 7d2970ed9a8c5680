"""Every code block of README.md, CONTRIBUTING.md and docs/ is held to what it says.

``python`` blocks run, one after the other, in a folder with finished runs (see conftest.py). Of ``sh`` blocks every
``dmlm`` command is given to the real parser, every other program is known and the files that it names exist. ``yaml``
blocks are configurations that the real command line accepts, or knowledge of findings. A block that the page tells the
reader to save ("as `NAME`") is there for the blocks and commands after it.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
import yaml

from dmlm.__main__ import COMMANDS, TRAINER_VERBS, main
from docs.blocks import PAGES, ROOT, Block, blocks_of, command_lines, inline_commands

SHELL = ("sh", "bash", "console")
UNTESTED = ("text", "{toctree}", "{eval-rst}", "{include}", "{literalinclude}", "{figure}")
"""Layouts of folders and outputs; Sphinx checks its own directives, and whole files have tests of their own."""

STAND_INS = {"my.yaml": "examples/datasets/mimic.yaml", "...": "examples/datasets/rsna.yaml", "N": "2"}
"""What a reader puts in the place of these words."""

CONFIGURATION = {"seed_everything", "trainer", "model", "data"}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def pages_with(*languages: str) -> list:
    chosen = [page for page in PAGES if any(block.language in languages for block in blocks_of(page))]
    return [pytest.param(page, id=name_of(page)) for page in chosen]


def save_named(page: Path, place: Path) -> None:
    """Write the blocks that the page has the reader save; a ``.csv`` may be a text block."""
    for block in blocks_of(page):
        if block.saved_as and Path(block.saved_as).suffix in (".py", ".yaml", ".csv"):
            (place / block.saved_as).write_text(block.text, encoding="utf-8")
            sys.modules.pop(Path(block.saved_as).stem, None)


def test_every_block_is_of_a_language_that_is_tested() -> None:
    known = (*SHELL, *UNTESTED, "python", "yaml")
    unknown = [
        f"{name_of(page)}:{block.line}: '{block.language}'"
        for page in PAGES
        for block in blocks_of(page)
        if block.language.partition(" ")[0] not in known
    ]
    assert not unknown


@pytest.mark.parametrize("page", pages_with("python"))
def test_python(page: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    save_named(page, workspace)
    if special := PREPARE.get(name_of(page)):
        special(workspace, monkeypatch, request)
    names: dict = {"__name__": "page"}
    for block in blocks_of(page):
        if block.language != "python":
            continue
        if block.saved_as:  # a module of the reader's own
            module = importlib.import_module(Path(block.saved_as).stem)
            names |= {name: value for name, value in vars(module).items() if not name.startswith("_")}
            continue
        source = "\n" * block.line + block.text  # so that a traceback has the page's line
        exec(compile(source, str(page), "exec"), names)


@pytest.mark.parametrize("page", pages_with(*SHELL))
def test_shell(page: Path, workspace: Path) -> None:
    save_named(page, workspace)
    for block in blocks_of(page):
        if block.language in SHELL:
            for words in command_lines(block.text):
                check_command(words, f"{name_of(page)}:{block.line}: {' '.join(words)}")


@pytest.mark.parametrize("page", [pytest.param(page, id=name_of(page)) for page in PAGES if inline_commands(page)])
def test_commands_in_sentences(page: Path, workspace: Path) -> None:
    save_named(page, workspace)
    for line in inline_commands(page):
        for words in command_lines(line):
            check_command(words, f"{name_of(page)}: {line}")


@pytest.mark.parametrize("page", pages_with("yaml"))
def test_yaml(page: Path, workspace: Path) -> None:
    for block in blocks_of(page):
        if block.language == "yaml":
            check_yaml(block, workspace, f"{name_of(page)}:{block.line}")


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


ACCEPTED: set[tuple[str, ...]] = set()
"""Commands that passed; many pages name the same ones."""


def check_command(words: list[str], where: str) -> None:
    words = [STAND_INS.get(word, word) for word in words]
    if tuple(words) in ACCEPTED:
        return
    program, *rest = words
    if program == "dmlm":
        check_dmlm(rest, where)
    elif program == "python" and rest[0] == "-m":
        if rest[1] != "venv":
            module = ROOT / rest[1].replace(".", "/")
            found = module.with_suffix(".py").is_file() or (module / "__main__.py").is_file()
            assert found or rest[1] == "build", where
    elif program in ("python", "bash"):
        assert (ROOT / rest[0]).is_file() or rest[0] == "submit.sh", where
    elif program == "pip":
        extras = {extra for word in rest for extra in re.findall(r"\[([\w,]+)\]", word)}
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        for extra in {name for names in extras for name in names.split(",")}:
            assert re.search(rf"^{extra} = \[", text, re.MULTILINE), f"{where}: no extra '{extra}'"
    else:
        assert program in ("git", "pytest", "pre-commit", "sphinx-build", "tensorboard", "ruff", "."), where
    ACCEPTED.add(tuple(words))


def check_dmlm(words: list[str], where: str) -> None:
    """Give a command to its parser and stop before it runs."""
    verb, *rest = words
    if verb.startswith("-"):
        assert main(words) == 0, where
        return
    if verb in TRAINER_VERBS and "--images" not in rest:
        shown = any(word == "--help" or word.endswith(".help") for word in rest)
        stop(lambda: main(words if shown else [*words, "--print_config"]), where)
        return
    assert verb in (*COMMANDS, "predict"), where
    module = f"dmlm.commands.{verb}"
    if verb == "data":
        module, rest = f"{module}_{rest[0]}", rest[1:]
    parser = importlib.import_module(module)._parser()
    if "--help" in rest:
        stop(lambda: parser.parse_args(rest), where)
        return
    try:
        parser.parse_args(rest)
    except SystemExit as end:
        pytest.fail(f"{where}: refused (status {end.code})")


def stop(action, where: str) -> None:
    """The action prints and exits with 0; an error comes out with the place on the page."""
    try:
        status = action()
    except SystemExit as end:
        status = 0 if end.code is None else end.code
    else:
        pytest.fail(f"{where}: ran, with status {status}")
    assert status == 0, where


def check_yaml(block: Block, place: Path, where: str) -> None:
    content = yaml.safe_load(block.text)
    path = place / (block.saved_as or "block.yaml")
    path.write_text(block.text, encoding="utf-8")
    if set(content) <= CONFIGURATION:
        verb = "test" if content.get("model", {}).get("class_path") == "ZeroShotModule" else "fit"
        over = ["--ckpt", "pretrain.ckpt"] if verb == "test" else ["--config", "cli.yaml"]
        stop(lambda: main([verb, *over, "--config", str(path), "--print_config"]), where)
    else:
        from dmlm.reports.knowledge import load_knowledge

        assert set(content["findings"]) <= set(load_knowledge(path)), where


def store_of_one_image(workspace: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The store ``rsna-256`` of docs/images.md, with the image ``a.dcm``."""
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(np.arange(300 * 280, dtype=np.uint32).astype(np.uint8).reshape(300, 280))
    picture.save(workspace / "a.dcm", format="PNG")
    (workspace / "images.csv").write_text("path\na.dcm\n")
    assert main(["data", "prepare", "images.csv", "--out", "rsna-256", "--image-column", "path"]) == 0


def answering_model(workspace: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A language model for docs/reports/llm.md that answers as the rules would."""
    pytest.importorskip("httpx")
    from dmlm.reports.llm.cost import answer_of
    from dmlm.reports.llm.json_client import JsonClient, Response
    from dmlm.reports.rules import structure

    def post(self: JsonClient, payload: dict) -> Response:
        text = payload["messages"][-1]["content"].partition("<<<\n")[2].rpartition("\n>>>")[0]
        message = {"role": "assistant", "content": answer_of(structure(text, "x"), text)}
        return Response(200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    monkeypatch.setattr(JsonClient, "post", post)


PREPARE = {"docs/images.md": store_of_one_image, "docs/reports/llm.md": answering_model}
"""What the blocks of a page stand on, beside the workspace."""
