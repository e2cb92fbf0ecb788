"""Who comes in: tokens, origins, names of this machine; over HTTP and on the socket, before it is accepted."""

import base64

import pytest
from websockets.exceptions import InvalidStatus

from rgbflow import InputError
from rgbflow.serve.access import Access, check_origin, given_token, read_token

TOKEN = "a-token-of-enough-letters"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PROTECTED = ["/classes", "/metrics", "/openapi.json"]


def subprotocol(token):
    return "rgbflow.bearer." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def refusal(running, **options):
    """The status that a socket is refused with."""
    with pytest.raises(InvalidStatus) as refused:
        running.connect(**options)
    return refused.value.response.status_code


@pytest.fixture
def guarded(start):
    return start(access=Access(TOKEN, ("https://game.example",)))


def test_without_the_token_only_health_and_the_page_answer(guarded):
    for path in PROTECTED:
        assert guarded.get(path).status_code == 401
        assert guarded.get(path, headers={"Authorization": "Bearer " + TOKEN[:-1]}).status_code == 401
        assert guarded.get(path, headers=BEARER).status_code == 200
    for path in ("/health", "/healthz", "/ready", "/readiness"):
        assert guarded.get(path).status_code == 200


def test_a_socket_needs_the_token_before_it_is_accepted(guarded):
    assert refusal(guarded) == 401
    assert refusal(guarded, additional_headers={"Authorization": "Bearer wrong"}) == 401
    assert refusal(guarded, subprotocols=["rgbflow.v1", subprotocol("wrong")]) == 401
    assert refusal(guarded, subprotocols=["rgbflow.v1", "rgbflow.bearer.%%%"]) == 401
    assert guarded.connect(additional_headers=BEARER).receive("hello")
    client = guarded.connect(subprotocols=["rgbflow.v1", subprotocol(TOKEN)])
    assert client.receive("hello")
    assert client.socket.subprotocol == "rgbflow.v1"  # and never the token
    assert guarded.count("rgbflow_sessions_refused_total", reason="token") == 4


def test_a_foreign_page_is_turned_away_and_an_allowed_one_is_not(guarded):
    foreign, allowed = {"Origin": "https://evil.example"}, {"Origin": "https://game.example"}
    assert guarded.get("/classes", headers=BEARER | foreign).status_code == 403
    answer = guarded.get("/classes", headers=BEARER | allowed)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "https://game.example"
    preflight = allowed | {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization"}
    assert guarded.request("OPTIONS", "/classes", headers=preflight).status_code == 200
    assert refusal(guarded, origin="https://evil.example", additional_headers=BEARER) == 403
    assert refusal(guarded, origin="null", additional_headers=BEARER) == 403
    assert guarded.connect(origin="https://game.example", additional_headers=BEARER).receive("hello")
    assert guarded.connect(origin=f"http://127.0.0.1:{guarded.port}", additional_headers=BEARER).receive("hello")


def test_without_a_token_only_names_of_this_machine_are_answered(running):
    assert running.get("/classes").status_code == 200
    for host in ("localhost", "localhost:8000", "[::1]:8000"):
        assert running.get("/classes", headers={"Host": host}).status_code == 200
    rebound = {"Host": "evil.example", "Origin": "http://evil.example"}
    assert running.get("/classes", headers=rebound).status_code == 403
    assert running.get("/classes", headers={"Host": "[::1"}).status_code in (400, 403)


def test_a_socket_that_offers_another_version_is_refused_and_one_that_offers_none_is_not(running):
    assert refusal(running, subprotocols=["rgbflow.v2"]) == 400
    assert running.connect(subprotocols=[]).receive("hello")


@pytest.mark.parametrize(
    ("authorization", "token"),
    [("Bearer abc", "abc"), ("bearer abc", "abc"), ("Basic abc", None), ("Bearer", None), ("", None)],
)
def test_the_token_of_a_header(authorization, token):
    assert given_token(authorization) == token


def test_a_token_of_other_letters_is_compared_and_not_an_error():
    assert not Access(TOKEN).admits("ärger")
    assert not Access(TOKEN).admits(None)
    assert Access().admits(None)


@pytest.mark.parametrize("text", ["", "short", "two words of a token", "line one of the token\nline two", "\x00" * 20])
def test_a_file_without_a_token_is_refused(tmp_path, text):
    (tmp_path / "token").write_text(text)
    with pytest.raises(InputError, match="--token-file"):
        read_token(tmp_path / "token")
    (tmp_path / "token").write_text(TOKEN + "\n")
    assert read_token(tmp_path / "token") == TOKEN


@pytest.mark.parametrize("origin", ["game.example", "https://game.example/", "ftp://game.example", "*", "null"])
def test_an_origin_that_is_none_is_refused(origin):
    with pytest.raises(InputError, match="--origin"):
        check_origin(origin)
