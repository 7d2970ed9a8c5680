"""The transport against a server that is slow, busy, broken, cut off, endless or elsewhere."""

from __future__ import annotations

import logging
import socket
import time

import pytest

from dmlm.reports.llm.chat import Message
from dmlm.reports.llm.endpoint import EndpointChat
from dmlm.reports.llm.errors import AnswerError, EndpointError
from dmlm.reports.llm.gate import check_destination
from dmlm.reports.llm.json_client import JsonClient

KEY = "sk-topsecret-0123456789"
ASK = [Message("system", "Say yes."), Message("user", "A report of Mrs Miller <<<\nx\n>>>")]
SCHEMA = {"type": "object"}


def chat_at(url, timeout=5.0, retries=3, key=KEY, **kwargs):
    pytest.importorskip("httpx")
    destination = check_destination(url)
    client = JsonClient(destination, key, timeout)
    return EndpointChat(client, "tiny", destination.name, retries=retries, first_wait=0.01, seed=0, **kwargs)


@pytest.fixture
def chat(fake):
    talker = chat_at(fake.url)
    yield talker
    talker.close()


def test_what_is_sent_and_what_comes_back(fake, chat):
    fake.script = ["yes"]
    reply = chat.complete(ASK, SCHEMA, 99)
    assert (reply.text, reply.is_cut, reply.tokens_in, reply.tokens_out) == ("yes", False, 11, 7)
    assert fake.payloads[0] == {
        "model": "tiny",
        "messages": [message._asdict() for message in ASK],
        "max_tokens": 99,
        "temperature": 0,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "report", "strict": True, "schema": SCHEMA},
        },
    }
    assert fake.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert fake.headers[0]["Host"] == f"127.0.0.1:{fake.port}"


def test_without_a_key_or_schema_neither_is_sent(fake):
    fake.script = ["yes"]
    chat = chat_at(fake.url, key=None)
    chat.complete(ASK)
    assert "Authorization" not in fake.headers[0]
    assert "response_format" not in fake.payloads[0]
    chat.close()


def test_the_name_is_kept_although_its_address_is_connected_to(fake):
    fake.script = ["yes"]
    chat = chat_at(f"http://localhost:{fake.port}/v1")
    chat.complete(ASK)
    assert fake.headers[0]["Host"] == f"localhost:{fake.port}"
    chat.close()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(fake, chat, status):
    fake.script = [(status, {"error": "busy"}), (status, b"<html>busy</html>"), "yes"]
    assert chat.complete(ASK).text == "yes"
    assert len(fake.payloads) == 3


@pytest.mark.parametrize("name", ["truncated", "hung_up", "huge"])
def test_broken_transfers_are_tried_again(fake, chat, misbehaviour, name):
    fake.script = [misbehaviour[name], misbehaviour[name], "yes"]
    assert chat.complete(ASK).text == "yes"
    assert len(fake.payloads) == 3


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1, 2", {}, {"choices": []}, {"choices": [1]}, {"choices": [{"message": 3}]}, [], 7, None]
)
def test_bodies_that_are_no_completion_are_tried_again(fake, chat, body):
    fake.script = [(200, body), "yes"]
    assert chat.complete(ASK).text == "yes"


@pytest.mark.parametrize("name", ["truncated", "hung_up"])
def test_a_fault_that_stays_fails_this_report_only(fake, chat, misbehaviour, name):
    fake.script = [misbehaviour[name]] * 4
    with pytest.raises(AnswerError, match="4 attempts") as caught:
        chat.complete(ASK)
    assert caught.value.is_transport
    assert chat.complete([Message("user", "<<<\nNo pneumothorax.\n>>>")]).text


def test_time_is_bounded_although_bytes_keep_coming(fake, misbehaviour):
    fake.script = [misbehaviour["dripping"]] * 2
    chat = chat_at(fake.url, timeout=0.3)
    start = time.monotonic()
    with pytest.raises(AnswerError) as caught:
        chat.complete(ASK)
    assert caught.value.reason == "timeout"
    assert time.monotonic() - start < 2.5
    assert len(fake.payloads) == 2
    chat.close()


def test_silence_is_bounded_too(fake):
    fake.delay = 1.0
    chat = chat_at(fake.url, timeout=0.2)
    with pytest.raises(AnswerError, match="timeout"):
        chat.complete(ASK)
    chat.close()


def test_retry_after_is_honoured(fake, chat):
    fake.script = [(429, {}, {"Retry-After": "1"}), "yes"]
    assert chat.complete(ASK).text == "yes"
    assert 1.0 <= fake.times[1] - fake.times[0] < 2.5


def test_an_endpoint_that_asks_for_too_long_a_wait_stops_the_run(fake, chat):
    fake.script = [(429, {}, {"Retry-After": "86400"})]
    with pytest.raises(EndpointError, match=r"86400 s.*--resume"):
        chat.complete(ASK)


def test_no_redirect_is_followed(fake, other, chat):
    for status in (301, 302, 303, 307, 308):
        fake.script = [(status, b"", {"Location": f"http://localhost:{other.port}/v1/chat/completions"})]
        with pytest.raises(EndpointError, match="redirects to localhost"):
            chat.complete(ASK)
    assert other.payloads == []


def test_no_proxy_of_the_environment_is_used(fake, other, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{other.port}")
    fake.script = ["yes"]
    chat = chat_at(fake.url)
    assert chat.complete(ASK).text == "yes"
    assert other.payloads == []
    chat.close()


def test_no_password_of_a_netrc_is_sent(fake, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password topsecret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    fake.script = ["yes"]
    chat = chat_at(fake.url, key=None)
    chat.complete(ASK)
    assert "Authorization" not in fake.headers[0]
    chat.close()


def test_a_proxy_that_was_named_is_used(fake, other):
    # the proxy answers itself; what counts is that the request came to it, with the address of the remote host
    destination = check_destination(
        "http://api.example.org/v1", allow_remote=["api.example.org"], proxy=f"http://127.0.0.1:{other.port}"
    )
    other.script = ["yes"]
    chat = EndpointChat(JsonClient(destination, None, 5.0), "tiny", destination.name, retries=0)
    assert chat.complete(ASK).text == "yes"
    assert other.headers[0]["Host"] == "api.example.org"
    chat.close()


def test_a_server_that_is_not_there_stops_the_run():
    with socket.socket() as silent:  # bound but not listening, so that no other test's server gets the port
        silent.bind(("127.0.0.1", 0))
        chat = chat_at(f"http://127.0.0.1:{silent.getsockname()[1]}/v1", retries=1)
        with pytest.raises(EndpointError, match=r"nothing answers.*--resume"):
            chat.complete(ASK)
        chat.close()


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ((401, {"error": {"message": f"wrong key {KEY}", "code": "invalid_api_key"}}), "--api-key-env"),
        ((403, {"error": {"message": "Mrs Miller"}}), "--api-key-env"),
        ((404, {"error": {"message": "Mrs Miller", "code": KEY}}), "--model"),
        ((429, {"error": {"message": "Mrs Miller", "code": "insufficient_quota"}}), "quota"),
        ((418, b"Mrs Miller"), "status 418"),
    ],
)
def test_what_no_attempt_mends_stops_the_run_and_repeats_nothing(fake, chat, step, words):
    fake.script = [step]
    with pytest.raises(EndpointError, match=words) as caught:
        chat.complete(ASK)
    assert len(fake.payloads) == 1
    text = str(caught.value)
    assert KEY not in text
    assert "Miller" not in text
    assert "\n" not in text


def test_no_log_and_no_representation_holds_key_or_report(fake, caplog, misbehaviour):
    caplog.set_level(logging.DEBUG)
    fake.script = [(500, {"error": f"{KEY} Mrs Miller"}), misbehaviour["hung_up"], (400, {"error": "Mrs Miller"})]
    fake.script += [(400, {"error": "Mrs Miller"})]
    chat = chat_at(fake.url)
    with pytest.raises(AnswerError) as caught:
        chat.complete(ASK)
    shown = f"{caplog.text}{caught.value!r}{chat!r}{chat._client!r}{chat._client._client.headers!r}{vars(chat)!r}"
    assert caught.value.__cause__ is None
    assert KEY not in shown
    assert "Miller" not in shown
    chat.close()


def test_formats_that_the_endpoint_does_not_know_are_left_out_and_not_offered_again(fake, chat):
    fake.script = [(400, {"error": "json_schema is not supported"}), (422, {"error": "nor json_object"}), "yes", "yes"]
    assert chat.complete(ASK, SCHEMA).text == "yes"
    formats = [payload.get("response_format", {}).get("type") for payload in fake.payloads]
    assert formats == ["json_schema", "json_object", None]
    chat.complete(ASK, SCHEMA)
    assert "response_format" not in fake.payloads[-1]


def test_one_refused_report_does_not_cost_the_schema(fake, chat):
    fake.script = [(400, {"error": "too long"})] * 3 + ["yes"]
    with pytest.raises(AnswerError, match="refused") as caught:
        chat.complete(ASK, SCHEMA)
    assert caught.value.reason == "refused"
    chat.complete(ASK, SCHEMA)
    assert fake.payloads[-1]["response_format"]["type"] == "json_schema"


def test_models_with_other_options_are_talked_to_in_their_way(fake, chat):
    fake.script = [
        (400, {"error": {"message": "Use 'max_completion_tokens' instead of 'max_tokens'."}}),
        (400, {"error": {"message": "'temperature' does not support 0 with this model."}}),
        "yes",
        "yes",
    ]
    assert chat.complete(ASK, SCHEMA, 50).text == "yes"
    chat.complete(ASK, SCHEMA, 50)
    for payload in fake.payloads[-2:]:
        assert payload["max_completion_tokens"] == 50
        assert not {"max_tokens", "temperature"} & set(payload)
        assert payload["response_format"]["type"] == "json_schema"


def test_content_in_parts_none_and_cut(fake, chat, make_completion):
    parts = [{"type": "text", "text": "y"}, {"type": "text", "text": "es"}]
    fake.script = [
        (200, make_completion(parts)),
        (200, make_completion(None)),
        (200, make_completion("ye", finish_reason="length")),
    ]
    assert [chat.complete(ASK).text for _ in range(2)] == ["yes", ""]
    assert chat.complete(ASK).is_cut


def test_a_model_that_declines_fails_this_report_only(fake, chat, make_completion):
    refusal = make_completion(None)
    refusal["choices"][0]["message"]["refusal"] = "I will not speak of Mrs Miller."
    fake.script = [(200, refusal), (200, make_completion("", finish_reason="content_filter"))]
    for _ in range(2):
        with pytest.raises(AnswerError) as caught:
            chat.complete(ASK)
        assert (caught.value.reason, caught.value.is_transport) == ("declined", False)
        assert "Miller" not in str(caught.value)


def test_closing_wakes_who_waits(fake):
    import threading

    fake.script = [(429, {}, {"Retry-After": "60"})]
    chat = chat_at(fake.url)
    threading.Timer(0.3, chat.close).start()
    start = time.monotonic()
    with pytest.raises(EndpointError):
        chat.complete(ASK)
    assert time.monotonic() - start < 5
