import pytest

from models.http import ModelServer, build_client, endpoint
from pipeline.errors import InvalidInput


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://h:1", "http://h:1/v1/chat/completions"),
        ("http://h:1/", "http://h:1/v1/chat/completions"),
        ("http://h:1/v1", "http://h:1/v1/chat/completions"),
        (" https://h/api/v3/ ", "https://h/api/v3/chat/completions"),
        ("https://h/team/a", "https://h/team/a/v1/chat/completions"),
        ("http://[::1]:8", "http://[::1]:8/v1/chat/completions"),
    ],
)
def test_a_url_with_or_without_version_leads_to_the_endpoint(url: str, address: str) -> None:
    assert str(endpoint(url, "chat/completions")) == address


@pytest.mark.parametrize(
    "url",
    ["", "h:1", "ftp://h", "http://", "http://h:port", "file:///etc/passwd", "http://h/?a=1"],
)
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        endpoint(url, "models")


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidInput) as caught:
        endpoint("http://user:hunter2@h", "models")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["two words", "línea", "a\nb"])
def test_a_key_that_cannot_be_a_header_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        build_client(tls=False, api_key=key)
    assert key not in str(caught.value)


async def test_the_client_reads_no_proxy_from_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with build_client(tls=True) as client:
        assert client.trust_env is False
        assert client._mounts == {}


async def test_a_server_hides_its_key() -> None:
    server = ModelServer("http://h", api_key="sk-secret", key_setting="K")
    assert "secret" not in repr(server)
    assert "secret" not in repr(vars(server)["_client"].headers)
    await server.aclose()
