import re

import pytest

from dmlm.reports import Observation, load_knowledge, vocabulary_path
from dmlm.reports.prompts import PROMPT_TEMPLATES, render_statement
from dmlm.reports.schema import EXISTENCES
from dmlm.reports.vocabulary import CHARACTERS, SPECIAL_TOKENS, build_vocabulary, corpus, main

UNSEEN = "Thoracoscopic pleurodesis was unsuccessful; lymphangioleiomyomatosis remains a differential."


@pytest.fixture(scope="module")
def words():
    return vocabulary_path().read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def tokenizer(words):
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return tokenizer


def test_form(words):
    assert tuple(words[:5]) == SPECIAL_TOKENS
    assert 2000 <= len(words) <= 4000
    assert len(set(words)) == len(words)
    assert all(character in words and f"##{character}" in words for character in CHARACTERS)
    assert all(word == word.lower() and word.strip() == word != "" for word in words[5:])


def test_no_unknown_pieces_and_few_pieces(tokenizer):
    texts = [text for known in load_knowledge().values() for text in (known.definition, known.appearance)]
    texts += [
        render_statement(Observation(name, existence), template).text
        for name in load_knowledge()
        for existence in EXISTENCES
        for template in PROMPT_TEMPLATES
    ]
    encodings = tokenizer.encode_batch(texts)
    assert not any("[UNK]" in encoding.tokens for encoding in encodings)
    pieces = sum(len(encoding.tokens) for encoding in encodings)
    separate = sum(len(re.findall(r"\w+|[^\w\s]", text)) for text in texts)
    assert pieces / separate < 1.05
    assert pieces / sum(len(text.split()) for text in texts) < 1.4


def test_unseen_words_fall_into_few_known_pieces(tokenizer):
    tokens = tokenizer.encode(UNSEEN).tokens
    assert "[UNK]" not in tokens
    assert len(tokens) < 4 * len(UNSEEN.split())


def test_any_printable_text_is_known(tokenizer):
    assert "[UNK]" not in tokenizer.encode("zqx9-QZX 4.5 cm (±10°) \u2013 \u201ccafé\u201d ~`@#$%^&*[]{}|\\<>").tokens


def test_shipped_file_holds_our_own_texts(words):
    own = set(build_vocabulary(corpus(), 10_000))
    assert {word for line in corpus() for word in re.findall("[a-z]+", line.lower())} <= set(words)
    assert len(own & set(words)) > 0.9 * len(words)


def test_script_is_reproducible(tmp_path, capsys):
    extra = tmp_path / "extra.txt"
    extra.write_text("phantomword phantomword\n")
    for name in ("a.txt", "b.txt"):
        main(["--texts", str(extra), "--out", str(tmp_path / name), "--size", "3000"])
    first = (tmp_path / "a.txt").read_text().splitlines()
    assert first == (tmp_path / "b.txt").read_text().splitlines()
    assert len(first) == 3000
    assert "phantomword" in first
    assert "3000 entries" in capsys.readouterr().out
