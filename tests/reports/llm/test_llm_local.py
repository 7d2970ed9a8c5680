"""A model of transformers on this machine: tiny, random, made here, with nothing downloaded."""

from __future__ import annotations

import socket

import pytest
import torch

from dmlm.errors import PretrainedWeightsError
from dmlm.reports.llm.cache import AnswerCache
from dmlm.reports.llm.chat import Message
from dmlm.reports.llm.engine import LLMEngine
from dmlm.reports.llm.errors import AnswerError
from dmlm.reports.llm.gate import ReportGate
from dmlm.reports.llm.local import TransformersChat

TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    "{% for message in messages %}[{{ message['role'] }}]{{ message['content'] }}{% endfor %}[assistant]"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A byte-level GPT-2 of two layers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    place = tmp_path_factory.mktemp("tiny-gpt")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate([*letters, "<end>"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(place)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(vocabulary),
        n_positions=16384,
        n_embd=16,
        n_layer=1,
        n_head=2,
        bos_token_id=256,
        eos_token_id=256,
    )
    GPT2LMHeadModel(config).save_pretrained(place)
    return place


@pytest.fixture
def chat(folder):
    return TransformersChat(str(folder))


def test_it_answers_the_same_each_time_and_counts_its_tokens(chat, folder):
    ask = [Message("system", "Be brief."), Message("user", "Hello")]
    first, second = (chat.complete(ask, max_tokens=7) for _ in range(2))
    assert first == second
    assert first.tokens_in == len("system: Be brief.\n\nuser: Hello\n\nassistant:")
    assert first.tokens_out == 7
    assert first.is_cut
    assert (chat.kind, chat.model) == ("transformers", folder.name)


def test_it_stops_at_its_end_token(chat):
    with torch.no_grad():
        chat._model.lm_head.weight.zero_()
        chat._model.lm_head.weight[256] = 0
        chat._model.transformer.ln_f.weight.zero_()
        chat._model.transformer.ln_f.bias.fill_(1.0)
        chat._model.lm_head.weight[256] = 1.0  # always the end
    reply = chat.complete([Message("user", "Hello")], max_tokens=7)
    assert (reply.text, reply.is_cut, reply.tokens_out) == ("", False, 1)


def test_its_chat_format_is_used_and_a_refused_system_turn_joins_the_first_question(chat):
    chat._tokenizer.chat_template = TEMPLATE
    tokens = chat._encode([Message("system", "Be brief."), Message("user", "Hello")])
    assert chat._tokenizer.decode(tokens) == "[user]Be brief.\n\nHello[assistant]"


def test_a_conversation_that_does_not_fit_fails_this_report_only(chat):
    with pytest.raises(AnswerError, match="16384") as caught:
        chat.complete([Message("user", "x" * 17000)])
    assert caught.value.reason == "too_long"


@pytest.mark.parametrize("name", ["no-such/model", "missing"])
def test_a_model_that_is_not_here_is_not_downloaded(name, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(PretrainedWeightsError, match="--model") as caught:
        TransformersChat(name if "/" in name else str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_random_model_babbles_and_the_rules_read(chat, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    engine = LLMEngine(chat, ReportGate(is_local=True), AnswerCache(None), attempts=2, max_tokens=8)
    record = engine.build("1", "FINDINGS: Small left pleural effusion.")
    assert [item.finding for item in record.report.observations] == ["Pleural Effusion"]
    assert record.report.flags == ("llm_failed_answer", "read_by_rules")
    assert record.provenance.engine == "transformers"
    assert engine.usage.asked == 2
