"""The engine: what is asked, asked again, kept, given up, and what the record then says."""

from __future__ import annotations

import json
import threading

import pytest

from dmlm.errors import ConfigError
from dmlm.reports.building import build_records
from dmlm.reports.llm.cache import AnswerCache, answer_key
from dmlm.reports.llm.chat import Reply
from dmlm.reports.llm.cost import answer_of, estimate
from dmlm.reports.llm.engine import LLMEngine
from dmlm.reports.llm.errors import AnswerError, EndpointError, GateError
from dmlm.reports.llm.gate import ReportGate
from dmlm.reports.llm.tokens import TokenCounter
from dmlm.reports.records import RecordWriter, read_records
from dmlm.reports.rules import structure
from dmlm.reports.sources import RawReport

TEXT = "INDICATION: Rule out pneumonia.\n\nFINDINGS: Small left pleural effusion. No pneumothorax."
SHOWN = "Small left pleural effusion. No pneumothorax."


def good_answer(text):
    return answer_of(structure(text, "x"), text)


ANSWER = good_answer(TEXT)


class Script:
    """A model that says what it is told to, and answers well afterwards."""

    kind, model = "endpoint", "tiny"

    def __init__(self, *replies) -> None:
        self.replies = list(replies)
        self.asked: list = []
        self.limits: list[int] = []
        self.is_closed = False
        self._lock = threading.Lock()

    def complete(self, messages, schema=None, max_tokens=1024):
        with self._lock:
            self.asked.append(list(messages))
            self.limits.append(max_tokens)
            reply = self.replies.pop(0) if self.replies else None
        if isinstance(reply, Exception):
            raise reply
        if reply is None:
            reply = good_answer(messages[-1].content.partition("<<<\n")[2].rpartition("\n>>>")[0])
        return reply if isinstance(reply, Reply) else Reply(reply, tokens_in=100, tokens_out=20)

    def close(self) -> None:
        self.is_closed = True


def engine_with(*replies, **kwargs):
    chat = Script(*replies)
    gate = kwargs.pop("gate", ReportGate(is_local=True))
    return LLMEngine(chat, gate, **kwargs), chat


def said(record):
    return [(item.finding, item.existence, item.laterality, item.severity) for item in record.report.observations]


EXPECTED = [("Pleural Effusion", "present", "left", "mild"), ("Pneumothorax", "absent", None, None)]


def test_a_good_answer_makes_a_record_like_that_of_the_rules():
    engine, _ = engine_with(ANSWER)
    record = engine.build("study 7", TEXT)
    assert said(record) == EXPECTED
    assert record.report.observations == structure(TEXT, "x").observations
    assert record.report.source == record.provenance.engine == "endpoint"
    assert record.provenance.model == "tiny"
    assert record.provenance.prompt_hash == engine.prompt.hash
    assert record.provenance.date
    assert engine.provenance.date == ""
    assert record.report.flags == ()
    assert "Pleural Effusion" in record.report.definition
    assert (engine.usage.asked, engine.usage.tokens_in, engine.usage.tokens_out) == (1, 100, 20)


def test_only_what_speaks_of_the_image_is_sent():
    engine, chat = engine_with()
    engine.build("study 7", TEXT)
    sent = "".join(message.content for message in chat.asked[0])
    assert chat.asked[0][-1].content == f"Report:\n<<<\n{SHOWN}\n>>>"
    assert "Rule out" not in sent
    assert "study 7" not in sent


def test_a_faulty_answer_is_asked_for_again_with_its_fault():
    wrong = ANSWER.replace("Pneumothorax", "Gout")
    engine, chat = engine_with(wrong, ANSWER)
    assert said(engine.build("1", TEXT)) == EXPECTED
    assert [message.role for message in chat.asked[1][-3:]] == ["user", "assistant", "user"]
    assert chat.asked[1][-2].content == wrong
    assert '"Gout" is not one of the findings' in chat.asked[1][-1].content


@pytest.mark.parametrize("broken", ["I am not sure.", "", '{"observations": [}]', '{"answer": 1}', "[1]"])
def test_answers_without_use_are_asked_for_again(broken):
    engine, chat = engine_with(broken, broken, ANSWER)
    assert said(engine.build("1", TEXT)) == EXPECTED
    assert len(chat.asked) == 3


def test_a_cut_answer_is_asked_for_with_more_room():
    engine, chat = engine_with(Reply(ANSWER[: len(ANSWER) // 2], is_cut=True), ANSWER)
    record = engine.build("1", TEXT)
    assert chat.limits[1] == 2 * chat.limits[0]
    assert chat.asked[0] == chat.asked[1]
    assert (said(record), record.report.flags) == (EXPECTED, ())


def test_what_stays_faulty_is_used_without_its_faults_and_flagged():
    wrong = ANSWER.replace("No pneumothorax", "No hemothorax")
    engine, _ = engine_with(wrong, wrong, wrong)
    record = engine.build("1", TEXT)
    assert said(record) == EXPECTED[:1]
    assert record.report.flags == ("answer_mended",)


def test_what_fails_for_good_is_read_by_the_rules_and_flagged():
    engine, _ = engine_with("no", "no", "no")
    record = engine.build("1", TEXT)
    assert said(record) == EXPECTED
    assert record.report.flags == ("llm_failed_answer", "read_by_rules")
    assert engine.usage.fallbacks == 1
    # records of one file have one reader, so that it can be resumed
    assert record.provenance.same_reader(engine.provenance)


def test_an_empty_answer_is_doubted_once_and_then_believed():
    empty = '{"observations": []}'
    engine, chat = engine_with(empty, empty)
    record = engine.build("1", TEXT)
    assert len(chat.asked) == 2
    assert "list is empty" in chat.asked[1][-1].content
    assert record.report.flags == ("no_observations",)


@pytest.mark.parametrize(
    ("text", "flag"),
    [("", "empty"), (" \n", "empty"), ("\x00\x01\x02abc" * 50, "binary"), ("INDICATION: Cough.", "no_image_section")],
)
def test_what_says_nothing_of_the_image_is_not_sent(text, flag):
    engine, chat = engine_with()
    record = engine.build("1", text)
    assert chat.asked == []
    assert flag in record.report.flags
    assert record.report.observations == ()


def test_other_languages_are_for_the_model():
    german = "Befund: Kein Pneumothorax. Der Erguss links ist neu und nicht groß."
    reply = {"evidence": "Kein Pneumothorax", "finding": "Pneumothorax", "existence": "absent"}
    engine, _ = engine_with(json.dumps({"observations": [reply]}))
    record = engine.build("1", german)
    assert said(record) == [("Pneumothorax", "absent", None, None)]
    assert "not_english" in record.report.flags


def test_a_long_report_is_cut_after_a_word_and_flagged():
    text = "FINDINGS: " + "No pneumothorax here today. " * 2000
    engine, chat = engine_with()
    record = engine.build("1", text)
    shown = chat.asked[0][-1].content
    assert len(shown) < 12_100
    assert shown.split()[-2] in ("No", "pneumothorax", "here", "today.")
    assert "text_cut" in record.report.flags
    assert said(record) == [("Pneumothorax", "absent", None, None)]


def test_one_failing_report_does_not_stop_the_others_but_many_do():
    down = AnswerError("tiny gave no complete answer", "server", is_transport=True)
    engine, chat = engine_with(down, None, *[down] * 10, patience=3)
    texts = [f"FINDINGS: No pneumothorax on film {number}." for number in range(10)]
    flags = [engine.build("1", text).report.flags for text in texts[:4]]
    assert flags == [("llm_failed_server", "read_by_rules"), (), *[("llm_failed_server", "read_by_rules")] * 2]
    with pytest.raises(EndpointError, match=r"3 reports in a row.*--resume"):
        engine.build("1", texts[4])
    assert chat.is_closed
    with pytest.raises(EndpointError, match="3 reports"):
        engine.build("1", texts[5])  # nothing more is asked
    assert len(chat.asked) == 5


def test_a_model_that_cannot_do_it_is_given_up_too():
    engine, _ = engine_with(*["no"] * 100, patience=2)
    for number in range(7):
        assert "read_by_rules" in engine.build("1", f"FINDINGS: No pneumothorax on film {number}.").report.flags
    with pytest.raises(EndpointError, match="8 reports in a row"):
        engine.build("1", TEXT)


def test_physionet_reports_stop_at_the_gate():
    gate = ReportGate(is_local=False, host="api.example.org", say=lambda _: None)
    engine, chat = engine_with(gate=gate)
    engine.build("1", TEXT)
    with pytest.raises(GateError):
        engine.build("2", f"                 FINAL REPORT\n {TEXT} Clear lungs.")
    assert len(chat.asked) == 1


def test_answers_are_kept_by_text_prompt_and_model(tmp_path):
    path = tmp_path / "deep" / "answers.sqlite"
    first, _ = engine_with(cache=AnswerCache(path))
    record = first.build("1", TEXT)
    first.close()
    again, silent = engine_with(cache=AnswerCache(path))
    assert again.is_cached(TEXT)
    assert again.build("2", TEXT).report.observations == record.report.observations
    assert silent.asked == []
    assert again.usage.cached == 1
    other, asked = engine_with(cache=AnswerCache(path))
    asked.model = "larger"
    other.build("1", TEXT)
    assert len(asked.asked) == 1
    # the same words elsewhere in the report: the places are found anew
    moved = again.build("3", f"CLINICAL HISTORY: fall.\n\n{TEXT}")
    assert [moved.report.observations[0].evidence, record.report.observations[0].evidence] == [(68, 95), (43, 70)]


def test_failures_are_not_kept(tmp_path):
    cache = AnswerCache(tmp_path / "answers.sqlite")
    engine, _ = engine_with("no", "no", "no", cache=cache)
    engine.build("1", TEXT)
    assert len(cache) == 0
    assert engine.build("1", TEXT).report.flags == ()
    assert len(cache) == 1


def test_the_cache_is_private_and_holds_no_identifier(tmp_path):
    path = tmp_path / "answers.sqlite"
    engine, _ = engine_with(cache=AnswerCache(path))
    engine.build("study-4711", TEXT)
    engine.close()
    assert path.stat().st_mode & 0o077 == 0
    assert b"4711" not in path.read_bytes()


def test_a_cache_of_another_version_or_none_is_refused(tmp_path):
    import sqlite3

    text = tmp_path / "text.sqlite"
    text.write_text("not a database, but long enough to be looked at by the library" * 20)
    newer = tmp_path / "newer.sqlite"
    with sqlite3.connect(newer) as database:
        database.execute("PRAGMA user_version = 9")
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as database:
        database.execute("CREATE TABLE mine (a)")
    for path in (text, newer, foreign):
        before = path.read_bytes()
        with pytest.raises(ConfigError, match=path.name):
            AnswerCache(path)
        assert path.read_bytes() == before


def test_a_damaged_cache_is_told_in_one_line(tmp_path):
    path = tmp_path / "answers.sqlite"
    cache = AnswerCache(path)
    for number in range(8):
        cache.put(answer_key("p", "m", str(number)), "x" * 3000)
    cache.close()
    raw = path.read_bytes()
    path.write_bytes(raw[:4096] + b"\xff" * (len(raw) - 4096))

    def read_all():
        broken = AnswerCache(path)
        return [broken.get(answer_key("p", "m", str(number))) for number in range(8)]

    with pytest.raises(ConfigError, match="--llm-cache"):
        read_all()


def test_keys_differ_wherever_the_border_lies():
    keys = {answer_key("a", "b", "c"), answer_key("ab", "", "c"), answer_key("", "ab", "c"), answer_key("a", "bc", "")}
    assert len(keys) == 4
    answer_key("a", "b", "\ud800")


def test_threads_share_the_engine(tmp_path):
    engine, _ = engine_with(cache=AnswerCache(tmp_path / "answers.sqlite"))
    reports = [RawReport(str(number), f"FINDINGS: No pneumothorax on film {number}.") for number in range(60)]
    with RecordWriter(tmp_path / "out.jsonl") as writer:
        built = build_records(reports, writer, lambda: engine, workers=8, use_threads=True)
    assert built.written == 60
    assert built.flags == {}
    assert [record.study_id for record in read_records(tmp_path / "out.jsonl")] == [str(number) for number in range(60)]
    assert engine.usage.asked == 60


def test_a_stopped_run_is_resumed(tmp_path):
    reports = [RawReport(str(number), f"FINDINGS: No pneumothorax on film {number}.") for number in range(30)]
    out, cache = tmp_path / "out.jsonl", tmp_path / "answers.sqlite"
    gone = EndpointError("nothing answers at 127.0.0.1:1")
    engine, _ = engine_with(*[None] * 12, *[gone] * 100, cache=AnswerCache(cache))
    with RecordWriter(out) as writer, pytest.raises(EndpointError, match="nothing answers"):
        build_records(reports, writer, lambda: engine, workers=4, use_threads=True)
    assert not out.exists()
    again, chat = engine_with(cache=AnswerCache(cache))
    with RecordWriter(out, resume=True) as writer:
        assert writer.done
        built = build_records(reports, writer, lambda: again, workers=4, use_threads=True)
    assert built.kept + built.written == 30
    assert len(chat.asked) == 18  # the twelve answers are not asked for again, whether their record was written or not


def test_the_estimate_counts_what_will_be_sent_and_sends_nothing():
    engine, chat = engine_with()
    texts = [TEXT] * 10
    size = estimate(engine, texts, price_in=2.0, price_out=10.0)
    assert chat.asked == []
    characters = sum(len(message.content) for message in engine.prompt.messages(SHOWN))
    messages = len(engine.prompt.messages(""))
    assert size.tokens_in / 10 == pytest.approx(characters / 4 + 4 * messages, abs=messages)
    assert size.tokens_out == 10 * -(-len(ANSWER) // 4)
    assert size.price == pytest.approx((2 * size.tokens_in + 10 * size.tokens_out) / 1e6)
    assert "about" in str(size)
    engine.build("1", TEXT)
    rest = estimate(engine, [*texts, "FINDINGS: No pneumothorax."])
    assert (rest.reports, rest.cached, rest.price) == (11, 10, None)
    assert estimate(engine, []).tokens_in == 0


def test_tokens_by_a_tokenizer(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"no": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        count = TokenCounter(str(path))
        assert count("no effusion seen") == 3
        assert count.is_exact
    assert TokenCounter()("abcde") == 2
    (tmp_path / "bad.json").write_text("{}")
    for name in ("bad.json", "missing.json"):
        with pytest.raises(ConfigError, match="--llm-tokenizer"):
            TokenCounter(str(tmp_path / name))
