"""An endpoint of our own on this machine that misbehaves as it is told."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dmlm.reports.llm.cost import answer_of
from dmlm.reports.rules import structure


def report_of(payload) -> str:
    """The report in the last question that holds one."""
    asked = [message["content"] for message in payload["messages"] if "<<<" in message["content"]][-1]
    return asked.partition("<<<\n")[2].rpartition("\n>>>")[0]


def good_answer(text: str) -> str:
    return answer_of(structure(text, "x"), text)


def completion(content, finish_reason="stop", usage=(11, 7)):
    return {
        "id": "1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]},
    }


class Fake:
    """Server with a script: one step per request; afterwards it answers well.

    A step is a function of the request handler, a ``(status, body)``, ``(status, body, headers)`` or the text of an
    answer.
    """

    def __init__(self) -> None:
        self.script: list = []
        self.payloads: list[dict] = []
        self.headers: list[dict] = []
        self.times: list[float] = []
        self.now = self.most = 0
        self.delay = 0.0
        self._lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with fake._lock:
                    fake.payloads.append(json.loads(body))
                    fake.headers.append(dict(self.headers))
                    fake.times.append(time.monotonic())
                    step = fake.script.pop(0) if fake.script else None
                    fake.now += 1
                    fake.most = max(fake.most, fake.now)
                time.sleep(fake.delay)
                with fake._lock:
                    fake.now -= 1
                if callable(step):
                    step(self)
                elif isinstance(step, str):
                    self.send_json(200, completion(step))
                elif step is None:
                    self.send_json(200, completion(good_answer(report_of(json.loads(body)))))
                else:
                    self.send_json(*step)

            do_GET = do_CONNECT = do_POST

            def send_json(self, status, body, headers=()):
                raw = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in dict(headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *args: None  # a client that hangs up is what is tested
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def fake():
    pytest.importorskip("httpx")
    server = Fake()
    yield server
    server.close()


@pytest.fixture
def other():
    """A second server, to which nothing may be sent."""
    server = Fake()
    yield server
    server.close()


def truncated(handler) -> None:
    """Promise more than is sent, then hang up."""
    raw = json.dumps(completion("{}")).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(raw) + 500))
    handler.end_headers()
    handler.wfile.write(raw)
    handler.wfile.flush()
    handler.close_connection = True


def hung_up(handler) -> None:
    """Say nothing at all."""
    handler.close_connection = True
    handler.connection.close()


def huge(handler) -> None:
    """Send without end."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    piece = b"x" * 65536
    try:
        while True:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    except OSError:
        handler.close_connection = True


def dripping(handler) -> None:
    """Send a byte now and then, so that no single read takes long."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(b"1\r\n \r\n")
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        handler.close_connection = True


@pytest.fixture
def misbehaviour():
    return {"truncated": truncated, "hung_up": hung_up, "huge": huge, "dripping": dripping}


@pytest.fixture
def make_completion():
    return completion
