"""Teaching over HTTP: takes come and go, a fit replaces the networks of open sessions, the bundle is one."""

import io
import json
import zipfile

import pytest

from rgbflow import Recognizer
from rgbflow.networks import loading
from rgbflow.serve.access import Access
from rgbflow.serve.service import Networks, Service
from rgbflow.serve.teaching import Teaching
from rgbflow.video.writing import write_video

MOTIONS = {"right": (2.0, 0.0), "down": (0.0, 2.0)}


@pytest.fixture(scope="module")
def films(tmp_path_factory, moving_square):
    """Two takes of two actions, as files of bytes."""
    folder, films = tmp_path_factory.mktemp("films"), {}
    for name, motion in MOTIONS.items():
        for seed in range(2):
            path = folder / f"{name}-{seed}.mp4"
            write_video(path, moving_square(*motion, frames=14, seed=seed), 25)
            films[name, seed] = path.read_bytes()
    return films


@pytest.fixture
def school(serving, base, tmp_path):
    """A service that can be taught and knows nothing yet."""
    service = Service(None)
    with serving(service, teaching=Teaching(service, str(base), "given", tmp_path / "takes")) as running:
        yield running


def add(school, name, video):
    return school.request("POST", f"/teach/actions/{name}/takes", content=video)


def actions(school):
    return {one["name"]: [take["id"] for take in one["takes"]] for one in school.get("/teach").json()["actions"]}


def test_an_open_session_recognises_what_was_taught_and_the_bundle_says_the_same(
    school, films, tmp_path, moving_square
):
    client = school.connect()
    assert client.receive("hello")["classes"] == []
    for (name, seed), video in films.items():
        answer = add(school, name, video)
        assert answer.status_code == 201
        assert answer.json()["report"] is None
        assert len(actions(school)[name]) == seed + 1
    fitted = school.request("POST", "/teach/fit").json()
    assert fitted["is_current"]
    assert fitted["report"]["takes"] == {"down": 2, "right": 2}
    assert fitted["report"]["lines"]
    told = client.receive("bundle")
    assert (told["classes"], told["no_action"]) == (["down", "right", "none"], "none")
    school.play(client, moving_square(2.0, 0.0, frames=14))
    assert {row["label"] for row in client.receive("update")["scores"]} == {"down", "right", "none"}

    archive = zipfile.ZipFile(io.BytesIO(school.get("/teach/bundle").content))
    archive.extractall(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(films["right", 0])
    expected = Recognizer.load(tmp_path / "taught", engine="torch").predict(tmp_path / "clip.mp4")
    given = school.request("POST", "/predict", content=films["right", 0]).json()
    assert given["label"] == expected.label
    assert given["score"] == pytest.approx(expected.score, abs=1e-5)


def test_a_service_on_exported_files_stays_on_them_after_a_fit(exported, serving, films, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "update_seconds", lambda engine, bundle: engine.name.startswith("torch"))
    recognizer = Recognizer.load(exported.folder, engine="onnx")
    service = Service(Networks(recognizer, "mine", "given"))
    with serving(service, teaching=Teaching(service, str(exported.folder), "given", tmp_path / "takes")) as school:
        for (name, _), video in films.items():
            add(school, name, video).raise_for_status()
        school.request("POST", "/teach/fit").raise_for_status()
        about = school.get("/classes").json()["bundle"]
        assert (about["name"], about["engine"], about["engine_note"]) == ("taught", "onnx fp32", None)
        assert school.get("/health").json() == {"status": "alive", "engine": "onnx fp32", "engine_note": None}
        given = school.request("POST", "/predict", content=films["right", 0]).json()
        assert given["engine"] == "onnx fp32"

        archive = zipfile.ZipFile(io.BytesIO(school.get("/teach/bundle").content))
        archive.extractall(tmp_path)
        (tmp_path / "clip.mp4").write_bytes(films["right", 0])
        expected = Recognizer.load(tmp_path / "taught", engine="torch", precision="fp32").predict(tmp_path / "clip.mp4")
        assert given["label"] == expected.label
        assert given["score"] == pytest.approx(expected.score, abs=1e-3)


def test_changes_are_made_and_taken_back_in_order(school, films):
    add(school, "right", films["right", 0])
    add(school, "right", films["right", 1])
    add(school, "down", films["down", 0])
    before = actions(school)
    first = before["right"][0]
    assert school.request("DELETE", f"/teach/actions/right/takes/{first}").status_code == 200
    assert school.request("PATCH", "/teach/actions/right", json={"name": "to the right"}).status_code == 200
    assert actions(school) == {"down": before["down"], "to the right": before["right"][1:]}
    assert school.request("DELETE", "/teach/actions/to%20the%20right").status_code == 200
    assert actions(school) == {"down": before["down"]}
    for _ in range(3):
        assert school.request("POST", "/teach/undo").status_code == 200
    assert actions(school) == before
    for _ in range(3):  # the takes themselves
        assert school.request("POST", "/teach/undo").status_code == 200
    assert actions(school) == {}
    assert school.request("POST", "/teach/undo").status_code == 404


def test_what_can_not_be_taught_is_named_and_changes_nothing(school, films, tmp_path):
    add(school, "right", films["right", 0])
    before = actions(school)
    answers = [
        (add(school, "right", b"no video"), 422),
        (add(school, "right", b""), 400),
        (add(school, "..", films["right", 0]), 405),  # another path, for any HTTP client
        (add(school, "%2e%2e%2fetc", films["right", 0]), 405),
        (add(school, ".hidden", films["right", 0]), 422),
        (school.request("DELETE", "/teach/actions/nobody"), 404),
        (school.request("DELETE", "/teach/actions/right/takes/..%2f..%2fx"), 405),
        (school.request("DELETE", "/teach/actions/right/takes/other.mp4"), 404),
        (school.request("PATCH", "/teach/actions/right", json={"name": "../up"}), 422),
        (school.request("PATCH", "/teach/actions/right", json={"nome": "up"}), 422),
        (school.request("POST", "/teach/fit"), 422),  # one action
        (school.get("/teach/bundle"), 404),
    ]
    for answer, wanted in answers:
        assert answer.status_code == wanted, answer.text
    assert actions(school) == before
    assert {path.name for path in tmp_path.iterdir()} == {"takes"}


def test_a_name_that_is_taken_is_not_given_twice(school, films):
    add(school, "right", films["right", 0])
    add(school, "down", films["down", 0])
    answer = school.request("PATCH", "/teach/actions/right", json={"name": "down"})
    assert answer.status_code == 422
    assert "'down'" in answer.json()["detail"]


def test_teaching_needs_the_token_where_there_is_one(serving, base, tmp_path):
    service = Service(None)
    teaching = Teaching(service, str(base), "given", tmp_path / "takes")
    with serving(service, Access("a-token-of-enough-letters"), teaching=teaching) as running:
        for method, path in [("GET", ""), ("POST", "/fit"), ("POST", "/actions/a/takes"), ("DELETE", "/actions/a")]:
            assert running.request(method, f"/teach{path}").status_code == 401


def test_takes_that_are_there_are_taught_at_the_start(serving, base, films, tmp_path, wait_until):
    for (name, seed), video in films.items():
        (tmp_path / "takes" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "takes" / name / f"{seed}.mp4").write_bytes(video)
    service = Service(None)
    with serving(service, teaching=Teaching(service, str(base), "given", tmp_path / "takes")) as running:
        wait_until(lambda: running.get("/ready").status_code == 200)
        assert running.get("/classes").json()["classes"] == ["down", "right", "none"]


def test_takes_without_a_folder_of_their_own_go_with_the_service(serving, base, films):
    service = Service(None)
    teaching = Teaching(service, str(base), "given")
    with serving(service, teaching=teaching) as running:
        add(running, "right", films["right", 0])
        assert actions(running)
        folder = teaching._folder
        assert folder.is_dir()
        assert json.loads(running.get("/teach").text)["base"] == str(base)
    assert not folder.exists()
