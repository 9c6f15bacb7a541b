"""A model's server is asked for its list of models; what it says decides."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from app.placed import placed
from app.settings import ChatSettings
from pipeline.errors import ModelUnavailable


class Answers(BaseHTTPRequestHandler):
    """Answers with the status that the path begins with."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.split("/")[1]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [200, 404])
def test_a_server_that_answers_is_named(address: str, status: int) -> None:
    chosen = ChatSettings(url=f"{address}/{status}/v1", name="some-model")
    assert placed("chat", chosen) == f"some-model at {address}/{status}/v1"


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "refuses the key: mend ZHINAO_CHAT__API_KEY"),
        (403, "refuses the key"),
        (500, "answers with the status 500: its own log says why"),
        (503, "answers with the status 503"),
    ],
)
def test_one_that_refuses_or_is_broken_is_said(address: str, status: int, says: str) -> None:
    with pytest.raises(ModelUnavailable, match=says):
        placed("chat", ChatSettings(url=f"{address}/{status}/v1", name="some-model"))
