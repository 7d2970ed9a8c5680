"""Nothing leaves the machine unless its host was allowed, and no PhysioNet report unless its terms were accepted."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmlm.errors import ConfigError
from dmlm.reports.llm.errors import GateError
from dmlm.reports.llm.gate import (
    PHYSIONET_TERMS,
    ReportGate,
    check_destination,
    is_physionet_like,
    is_physionet_root,
)

MIMIC = "                 FINAL REPORT\n EXAMINATION: CHEST\n\n FINDINGS: No pneumothorax.  ___ was told."


@pytest.fixture
def names(monkeypatch):
    """Table of host names that stands for DNS; numbers are left to the system."""
    table = {"localhost": ["127.0.0.1", "::1"]}
    real = socket.getaddrinfo

    def look_up(host, port, *args, **kwargs):
        if host in table:
            return [(0, 0, 0, "", (address, port)) for address in table[host]]
        if any(letter.isalpha() for letter in host) and ":" not in host and not host.startswith("0x"):
            raise socket.gaierror(host)
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return table


@pytest.mark.parametrize(
    ("url", "connect"),
    [
        ("http://localhost:8000/v1", "http://127.0.0.1:8000/v1"),
        ("http://LOCALHOST:8000/v1/", "http://127.0.0.1:8000/v1"),
        ("http://localhost.:8000", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("http://127.8.9.10:8000/v1", "http://127.8.9.10:8000/v1"),
        ("http://[::1]:11434/v1", "http://[::1]:11434/v1"),
        ("https://localhost/v1", "https://127.0.0.1:443/v1"),
    ],
)
def test_this_machine_needs_no_leave(names, url, connect):
    destination = check_destination(url, "m")
    assert destination.is_local
    assert destination.url == connect


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.org/v1",
        "http://10.0.0.7:8000/v1",
        "http://192.168.1.2/v1",
        "http://0.0.0.0:8000/v1",
        "http://[::]:8000/v1",
        "http://[::ffff:10.0.0.7]:8000/v1",
        "http://localhost.example.org/v1",
        "http://127.0.0.1.example.org/v1",
    ],
)
def test_other_hosts_are_refused_and_the_option_named(names, url):
    with pytest.raises(GateError, match="--allow-remote") as caught:
        check_destination(url, "m", allow_remote=["other.example.org"])
    assert "\n" not in str(caught.value)


def test_a_name_counts_as_this_machine_only_if_all_its_addresses_do(names):
    names["two.example.org"] = ["127.0.0.1", "203.0.113.9"]
    names["one.example.org"] = ["127.0.0.1"]
    with pytest.raises(GateError):
        check_destination("http://two.example.org/v1")
    destination = check_destination("http://one.example.org:81/v1")
    # the address that was checked is the one that is connected to: a second look-up cannot lead elsewhere
    assert (destination.is_local, destination.url) == (True, "http://127.0.0.1:81/v1")
    assert destination.name == "one.example.org:81"


def test_localhost_that_resolves_elsewhere_is_not_this_machine(names):
    names["localhost"] = ["203.0.113.9"]
    with pytest.raises(GateError):
        check_destination("http://localhost:8000/v1")


def test_an_allowed_host_passes_and_lack_of_encryption_is_said(names):
    destination = check_destination("https://API.example.org/v1", allow_remote=["api.example.org"])
    assert (destination.is_local, destination.url) == (False, "https://api.example.org:443/v1")
    assert destination.warnings == ()
    assert "not encrypted" in check_destination("http://gpu7:8000/v1", allow_remote=["gpu7"]).warnings[0]


def test_allowing_one_host_allows_no_other(names):
    for other in ("https://evil.api.example.org", "https://example.org", "https://api.example.org.evil.net"):
        with pytest.raises(GateError):
            check_destination(other, allow_remote=["api.example.org"])


@pytest.mark.parametrize("allowed", ["*", "*.example.org", "https://api.example.org", "api.example.org:443", "", "a/b"])
def test_an_allowance_is_one_plain_host(names, allowed):
    with pytest.raises(ConfigError, match="--allow-remote"):
        check_destination("https://api.example.org", allow_remote=[allowed])


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1\\@api.example.org/v1",
        "http://localhost@api.example.org/v1",
        "http://user:topsecret@127.0.0.1/v1",
        "http://127.0.0.1/v1?key=topsecret",
        "http://127.0.0.1/v1#topsecret",
        "http://127.0.0.1/ v1",
        "http://127.0.0.1\n.example.org",
        "ftp://127.0.0.1",
        "127.0.0.1:8000",
        "http://127.0.0.1:99999/v1",
        "",
    ],
)
def test_addresses_that_can_be_read_in_two_ways_are_refused_without_repeating_secrets(names, url):
    with pytest.raises(ConfigError) as caught:
        check_destination(url, allow_remote=["api.example.org"])
    assert "topsecret" not in str(caught.value)


def test_ollama_passes_cloud_models_on(names):
    local = "http://localhost:11434/v1"
    assert check_destination(local, "llama3.2:latest").is_local
    for model in ("gpt-oss:120b-cloud", "glm-4.6:cloud"):
        with pytest.raises(GateError, match=r"ollama\.com"):
            check_destination(local, model)
        assert not check_destination(local, model, allow_remote=["ollama.com"]).is_local


def test_a_proxy_is_a_host_too(names):
    remote, allow = "https://api.example.org/v1", ["api.example.org"]
    with pytest.raises(GateError, match=r"--proxy.*proxy\.example\.org"):
        check_destination(remote, allow_remote=allow, proxy="http://me:topsecret@proxy.example.org:3128")
    assert check_destination(remote, allow_remote=[*allow, "proxy.example.org"], proxy="http://proxy.example.org:3128")
    assert check_destination(remote, allow_remote=allow, proxy="http://127.0.0.1:3128").proxy
    with pytest.raises(ConfigError, match="never reached through a proxy"):
        check_destination("http://localhost:8000", proxy="http://127.0.0.1:3128")


@given(st.text(max_size=40))
def test_whatever_is_typed_either_passes_as_local_or_is_refused(text):
    # no look-up: a generated name must not reach DNS
    try:
        destination = check_destination(f"http://10.{text}", allow_remote=["allowed.example.org"])
    except ConfigError:
        return
    assert destination.host == "allowed.example.org"


def test_physionet_reports_need_their_terms_accepted_by_name():
    said: list[str] = []
    gate = ReportGate(is_local=False, host="api.example.org", say=said.append)
    for _ in range(2):
        with pytest.raises(GateError, match="--accept-physionet-terms MIMIC-CXR") as caught:
            gate.check_report(MIMIC)
        assert "pneumothorax" not in str(caught.value)
    assert said == [PHYSIONET_TERMS]  # shown, and shown once
    gate.check_report("FINDINGS: No pneumothorax.")


def test_accepted_terms_are_still_shown():
    said: list[str] = []
    gate = ReportGate(is_local=False, host="api.example.org", accepted="MIMIC-CXR", say=said.append)
    gate.check_report(MIMIC)
    assert said == [PHYSIONET_TERMS]


@pytest.mark.parametrize("name", ["", "yes", "mimic-cxr", "Jane Doe"])
def test_another_name_accepts_nothing(name):
    with pytest.raises(ConfigError, match="MIMIC-CXR"):
        ReportGate(is_local=False, accepted=name)


def test_a_model_on_this_machine_needs_no_terms(tmp_path):
    said: list[str] = []
    gate = ReportGate(is_local=True, say=said.append)
    gate.check_report(MIMIC)
    gate.check_root(tmp_path / "mimic-cxr")
    assert said == []


def test_roots_are_known_by_path_link_and_content(tmp_path):
    plain = tmp_path / "data"
    (plain / "files" / "p10").mkdir(parents=True)
    assert is_physionet_root(plain)
    release = tmp_path / "MIMIC-CXR-JPG" / "2.0.0"
    release.mkdir(parents=True)
    assert is_physionet_root(release)
    link = tmp_path / "innocent"
    link.symlink_to(release)
    assert is_physionet_root(link)
    listed = tmp_path / "reports"
    listed.mkdir()
    assert not is_physionet_root(listed)
    (listed / "cxr-study-list.csv.gz").touch()
    assert is_physionet_root(listed)
    with pytest.raises(GateError):
        ReportGate(is_local=False, host="h", say=lambda _: None).check_root(listed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MIMIC, True),
        ("Compared with ___, no change.", True),
        ("Compared with XXXX, no change.", False),
        ("Signature: ____________", False),
        ("This is the final report of the chest.", False),
        ("", False),
    ],
)
def test_marks_of_physionet_reports(text, expected):
    assert is_physionet_like(text) is expected
