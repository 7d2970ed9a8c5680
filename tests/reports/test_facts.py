import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmlm.reports import Observation, encode_facts, finding_key, load_knowledge, relation
from dmlm.reports.schema import EXISTENCES, LATERALITIES, SEVERITIES

E = "Pleural Effusion"


def obs(existence, side=None, severity=None, finding=E):
    return Observation(finding, existence, side, severity=severity)


def facts(*observations):
    return encode_facts(observations, 8)


def test_keys_are_stable_and_common_to_all_names():
    assert finding_key("Pleural Effusion") == 7989265703856404096  # written into no file, but equal on all ranks
    assert finding_key("effusion") == finding_key("pleural_effusion") == finding_key(E)
    keys = {finding_key(name) for name in load_knowledge()}
    assert len(keys) == len(load_knowledge())
    assert all(0 < key < 2**63 for key in keys)


def test_rows():
    array = encode_facts([obs("absent", finding="Mass"), obs("present", "left", "severe")], max_facts=4)
    assert array.dtype == np.int64
    assert array.tolist() == [[finding_key(E), 2, 1, 3], [finding_key("Mass"), 1, 0, 0], [0] * 4, [0] * 4]
    assert encode_facts([], 3).tolist() == [[0] * 4] * 3


@pytest.mark.parametrize(
    ("observations", "row"),
    [
        ([obs("present", "left", "mild"), obs("present", "right", "severe")], [2, 3, 3]),
        ([obs("present", "bilateral")], [2, 3, 0]),
        ([obs("present", "left"), obs("absent", "right")], [2, 1, 0]),
        ([obs("absent", "right"), obs("present", "left")], [2, 1, 0]),
        ([obs("uncertain", "right", "mild"), obs("present")], [2, 0, 0]),
        ([obs("uncertain", "right", "mild"), obs("absent", "left")], [3, 2, 1]),
        ([obs("absent", "left", "mild")], [1, 0, 0]),
        ([obs("present", "left"), obs("present", "right", finding="effusion")], [2, 3, 0]),
    ],
)
def test_merging(observations, row):
    assert facts(*observations)[0, 1:].tolist() == row
    assert (facts(*observations)[1:] == 0).all()


def test_overflow_leaves_absent_findings_out():
    names = sorted(load_knowledge())[:5]
    observations = [obs("absent", finding=name) for name in names[:4]] + [obs("present", finding=names[4])]
    array = encode_facts(observations, 2)
    assert array[:, 0].tolist() == [finding_key(names[4]), finding_key(names[0])]


@pytest.mark.parametrize(
    ("report", "text", "expected"),
    [
        (obs("present"), obs("present"), "positive"),
        (obs("absent"), obs("absent"), "positive"),
        (obs("uncertain"), obs("uncertain"), "positive"),
        (obs("present"), obs("absent"), "negative"),
        (obs("absent"), obs("present"), "negative"),
        (obs("absent"), obs("present", "left", "mild"), "negative"),
        (obs("uncertain"), obs("present"), "ignored"),
        (obs("absent"), obs("uncertain"), "ignored"),
        (obs("present", finding="Mass"), obs("present"), "ignored"),
        (obs("present", "left"), obs("present"), "positive"),
        (obs("present", "left"), obs("present", "left"), "positive"),
        (obs("present", "bilateral"), obs("present", "left"), "positive"),
        (obs("present", "left"), obs("present", "bilateral"), "negative"),
        (obs("present", "left"), obs("present", "right"), "negative"),
        (obs("present"), obs("present", "right"), "ignored"),
        (obs("present", severity="mild"), obs("present"), "positive"),
        (obs("present", severity="mild"), obs("present", severity="mild"), "positive"),
        (obs("present", severity="mild"), obs("present", severity="severe"), "negative"),
        (obs("present"), obs("present", severity="severe"), "ignored"),
        (obs("present", "left"), obs("present", "left", "severe"), "ignored"),
        (obs("present", severity="mild"), obs("present", "left", "severe"), "negative"),
        (obs("present", "right"), obs("present", "left", "severe"), "negative"),
        (obs("uncertain", "left"), obs("uncertain", "right"), "ignored"),
        (obs("uncertain", "left"), obs("uncertain", "left"), "positive"),
    ],
)
def test_relation_of_one_fact(report, text, expected):
    assert relation(facts(report), facts(text)) == expected


def test_relation_of_several_facts():
    mass, edema = obs("present", finding="Mass"), obs("absent", finding="Edema")
    report = facts(mass, edema, obs("present", "left"))
    assert relation(report, facts(mass, edema)) == "positive"
    assert relation(report, facts(mass, obs("present", finding="Hernia"))) == "ignored"
    # negative outranks ignored
    assert relation(report, facts(obs("present", finding="Edema"), obs("present", finding="Hernia"))) == "negative"
    assert relation(report, facts()) == "ignored"
    assert relation(facts(), report) == "ignored"


some = st.lists(
    st.builds(
        Observation,
        finding=st.sampled_from(("Mass", "Edema", "Hernia")),
        existence=st.sampled_from(EXISTENCES),
        laterality=st.sampled_from((None, *LATERALITIES)),
        severity=st.sampled_from((None, *SEVERITIES)),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=100, deadline=None)
@given(some, some)
def test_relation_properties(one, other):
    first, second = facts(*one), facts(*other)
    assert relation(first, first) == "positive"
    assert relation(first, second[::-1]) == relation(first, second)
    if relation(first, second) == relation(second, first) == "positive":
        assert sorted(first.tolist()) == sorted(second.tolist())
