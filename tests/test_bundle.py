import dataclasses
import http.server
import json
import os
import subprocess
import sys
import threading

import pytest
import torch

from rgbflow.bundle import (
    FORMAT_VERSION,
    LOCK,
    RECORD,
    Bundle,
    change_record,
    fetch_bundle,
    load_bundle,
    load_weights,
    model_card,
    save_bundle,
    save_stream,
    with_stream,
)
from rgbflow.errors import InputError
from rgbflow.fusion import Fusion
from rgbflow.stream import Preparation, StreamSpec

RGB = StreamSpec("rgb", "test_resnet", 32, 1, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), dropout=0.5)
FLOW = StreamSpec("flow", "test_resnet", 32, 5, (0.5, 0.5), (0.07, 0.07))
FITTED = Fusion("reliability", {"rgb": (0.5, 0.9), "flow": (1.0, 0.25)}, (), 0.8, 0.625, 0.05)
SPLIT = {"protocol": "group", "seed": 3, "leak_percent": 0.0, "sha256": "ab" * 32}


def bundle_of(*specs, **changes):
    bundle = Bundle(("jump", "wave"), Preparation(48), {spec.stream: spec for spec in specs}, SPLIT)
    return dataclasses.replace(bundle, **changes)


def test_a_bundle_comes_back_as_it_was_saved(tmp_path):
    figures = {"rgb": {"top1": 50.0, "top1_interval": (10.0, 90.0), "top5": 100.0}}
    measured = {"test": {"protocol": "group", "leak_percent": 0.0, "clips": 2, "snippets": 25, "figures": figures}}
    bundle = bundle_of(RGB, FLOW, measured=measured, origin={"rgb": {"commit": "abc"}}, licence="CC-BY-4.0")
    save_bundle(tmp_path, bundle)
    loaded = load_bundle(tmp_path)
    assert dataclasses.replace(loaded, measured={}) == dataclasses.replace(bundle, measured={})
    assert loaded.measured == json.loads(json.dumps(measured))


def test_two_changes_at_the_same_time_are_both_kept(tmp_path):
    save_bundle(tmp_path, bundle_of(RGB))

    def licensed(present):
        return dataclasses.replace(present, licence="CC0-1.0")

    second = threading.Thread(target=change_record, args=(tmp_path, licensed))

    def promised(present):
        second.start()
        second.join(0.5)  # without a lock the second ends here, and what it wrote is lost
        return dataclasses.replace(present, no_action="jump")

    change_record(tmp_path, promised)
    second.join()
    kept = load_bundle(tmp_path)
    assert (kept.licence, kept.no_action) == ("CC0-1.0", "jump")


def test_a_folder_that_can_not_be_locked_is_one_line(tmp_path):
    save_bundle(tmp_path, bundle_of(RGB))
    (tmp_path / LOCK).mkdir()
    with pytest.raises(InputError, match=r"can't be written \(Is a directory\): free space or choose another folder"):
        change_record(tmp_path, lambda present: present)


def test_the_frame_rate_is_kept_and_assumed_where_an_older_bundle_has_none(tmp_path):
    for number, (told, resampled, rate) in enumerate(
        [(29.97, None, 29.97), (30.0, 12.5, 12.5), (None, 12.5, 12.5), (None, None, 25.0)]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        save_bundle(folder, bundle_of(RGB, preparation=Preparation(48, frame_rate=resampled), frames_per_second=told))
        loaded = load_bundle(folder)
        assert (loaded.frames_per_second, loaded.frame_rate) == (told, rate)
        assert loaded.knows_frame_rate == (told is not None or resampled is not None)
        assert ("frames_per_second" in json.loads((folder / RECORD).read_text())) == (told is not None)


def test_what_a_later_version_of_the_same_format_adds_is_no_damage(tmp_path):
    save_bundle(tmp_path, bundle_of(RGB, FLOW))
    record = json.loads((tmp_path / RECORD).read_text())
    (tmp_path / RECORD).write_text(json.dumps({**record, "colour": "blue"}))
    assert load_bundle(tmp_path) == bundle_of(RGB, FLOW)


@pytest.mark.parametrize(("config", "mirrored"), [({"flip": False}, False), ({"flip": True}, True), ({}, True)])
def test_an_older_bundle_says_among_its_settings_whether_clips_were_mirrored(tmp_path, config, mirrored):
    save_bundle(tmp_path, bundle_of(RGB, origin={"rgb": {"config": config}}))
    record = json.loads((tmp_path / RECORD).read_text())
    del record["streams"]["rgb"]["mirrored"]
    (tmp_path / RECORD).write_text(json.dumps(record))
    assert load_bundle(tmp_path).streams["rgb"].mirrored == mirrored


@pytest.mark.parametrize("rate", [0, -25, "fast", float("nan"), float("inf")])
def test_a_frame_rate_that_is_none_is_damage(tmp_path, rate):
    save_bundle(tmp_path, bundle_of(RGB))
    record = json.loads((tmp_path / RECORD).read_text())
    (tmp_path / RECORD).write_text(json.dumps({**record, "frames_per_second": rate}))
    with pytest.raises(InputError, match="is damaged"):
        load_bundle(tmp_path)


def test_weights_come_back_as_they_were_saved(tmp_path):
    weights = {"a": torch.randn(3, 4).t(), "b": torch.arange(5)}
    save_stream(tmp_path, bundle_of(RGB), "rgb", weights)
    loaded = load_weights(tmp_path, "rgb")
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_the_second_stream_joins_the_first():
    both = with_stream(bundle_of(RGB, origin={"rgb": {"epoch": 1}}), bundle_of(FLOW, origin={"flow": {"epoch": 2}}))
    assert both.streams == {"rgb": RGB, "flow": FLOW}
    assert both.origin == {"rgb": {"epoch": 1}, "flow": {"epoch": 2}}


@pytest.mark.parametrize(
    "change", [{"classes": ("jump", "run")}, {"preparation": Preparation(64)}, {"split": {**SPLIT, "seed": 4}}]
)
def test_streams_of_different_origin_do_not_join(change):
    with pytest.raises(InputError, match=f"other stream was trained with another {next(iter(change))}"):
        with_stream(bundle_of(RGB), bundle_of(FLOW, **change))


def test_a_newer_format_says_to_upgrade(tmp_path):
    save_bundle(tmp_path, bundle_of(RGB))
    record = json.loads((tmp_path / RECORD).read_text())
    (tmp_path / RECORD).write_text(json.dumps({**record, "format_version": FORMAT_VERSION + 1}))
    with pytest.raises(InputError, match=f"has format {FORMAT_VERSION + 1}, this rgbflow reads up to {FORMAT_VERSION}"):
        load_bundle(tmp_path)


def test_an_unknown_fusion_is_not_taken_for_an_average(tmp_path):
    save_bundle(tmp_path, bundle_of(RGB))
    record = json.loads((tmp_path / RECORD).read_text())
    for fusion, words in (
        ({"method": "votes"}, r"fusion.method \('votes'\) must be one of average, .* or upgrade rgbflow"),
        ({"method": "average", "jury": 12}, r"fusion.jury is unknown to this rgbflow"),
    ):
        (tmp_path / RECORD).write_text(json.dumps({**record, "fusion": fusion}))
        with pytest.raises(InputError, match=words):
            load_bundle(tmp_path)


def test_a_bundle_that_is_not_calibrated_is_written_as_it_always_was(tmp_path):
    save_bundle(tmp_path, bundle_of(RGB, FLOW))
    record = json.loads((tmp_path / RECORD).read_text())
    assert record["fusion"] == {"method": "average"}
    assert "calibration" not in record
    assert load_bundle(tmp_path).fusion == Fusion()


def test_a_product_without_any_fit_comes_back_and_the_card_says_that_nothing_was_fitted(tmp_path):
    bundle = bundle_of(RGB, FLOW, fusion=Fusion("product"))
    save_bundle(tmp_path, bundle)
    assert json.loads((tmp_path / RECORD).read_text())["fusion"] == {"method": "product"}
    assert load_bundle(tmp_path) == bundle
    card = (tmp_path / "README.md").read_text()
    assert "Fusion: product. Its probabilities are not calibrated; `rgbflow calibrate` calibrates them." in card


def test_a_fitted_product_comes_back(tmp_path):
    bundle = bundle_of(RGB, FLOW, fusion=Fusion("product", {"rgb": (0.4,), "flow": (1.1,)}, temperature=1.2))
    save_bundle(tmp_path, bundle)
    assert load_bundle(tmp_path) == bundle
    assert "Fusion: product, temperature 1.20, fitted on the val part." in (tmp_path / "README.md").read_text()


def test_a_fitted_fusion_comes_back_and_is_on_the_card(tmp_path):
    bundle = bundle_of(RGB, FLOW, fusion=FITTED, calibration={"clips": 20})
    save_bundle(tmp_path, bundle)
    assert load_bundle(tmp_path) == bundle
    card = (tmp_path / "README.md").read_text()
    assert "Fusion: reliability, temperature 0.80, fitted on the val part." in card
    assert "above 0.625 is labelled unknown; it was fitted so that at most 5 %" in card


@pytest.mark.parametrize(
    ("fusion", "words"),
    [
        (Fusion(threshold=0.5), "Its probabilities are not calibrated; `rgbflow calibrate` calibrates them. A clip"),
        (Fusion("product", threshold=0.5), "Fusion: product. Its probabilities are not calibrated"),
        (Fusion(temperature=2.0, threshold=0.5), "Fusion: average, temperature 2.00, fitted on the val part. A clip"),
    ],
)
def test_a_threshold_that_was_set_by_hand_promises_nothing_on_the_card(tmp_path, fusion, words):
    bundle = bundle_of(RGB, FLOW, fusion=fusion)
    save_bundle(tmp_path, bundle)
    assert load_bundle(tmp_path) == bundle
    card = (tmp_path / "README.md").read_text()
    assert words in card
    assert "above 0.500 is labelled unknown; the threshold was set by hand, so nothing is promised" in card


@pytest.mark.parametrize(
    "bundle", [bundle_of(RGB), dataclasses.replace(bundle_of(RGB, FLOW), classes=("jump", "run", "wave"))]
)
def test_a_fusion_for_other_streams_or_classes_is_damage(tmp_path, bundle):
    save_bundle(tmp_path, dataclasses.replace(bundle, fusion=FITTED))
    with pytest.raises(InputError, match="its fusion belongs to other streams or classes"):
        load_bundle(tmp_path)


def test_training_a_stream_anew_forgets_the_fitted_fusion_and_the_figures():
    calibrated = bundle_of(RGB, FLOW, fusion=FITTED, calibration={"clips": 20}, measured={"test": {}})
    anew = with_stream(calibrated, bundle_of(RGB))
    assert (anew.fusion, anew.calibration, anew.measured) == (Fusion(), {}, {})


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format_version": 1}', '{"format_version": "one"}', "no json"])
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(InputError, match=f"{RECORD} is damaged"):
        load_bundle(tmp_path)


def test_a_typo_in_a_local_path_is_not_asked_of_the_hub(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="bundle runs/mien is not a folder"):
        fetch_bundle("runs/mien")


def test_damaged_weights_are_named(tmp_path):
    save_stream(tmp_path, bundle_of(RGB), "rgb", {"a": torch.zeros(100)})
    path = tmp_path / "rgb.safetensors"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=r"rgb.safetensors can't be read"):
        load_weights(tmp_path, "rgb")


def test_a_folder_without_a_bundle_says_what_makes_one(tmp_path):
    with pytest.raises(InputError, match=r"is not a bundle: it has no recognizer\.json; make one with `rgbflow train`"):
        load_bundle(tmp_path)


def test_the_card_tells_classes_figures_and_leak():
    figures = {"fused": {"top1": 91.25, "top1_interval": (80.0, 97.0), "top5": 99.0}}
    measured = {"test": {"protocol": "paper", "leak_percent": 97.5, "clips": 40, "snippets": 25, "figures": figures}}
    card = model_card(bundle_of(RGB, FLOW, measured=measured))
    assert "jump, wave" in card
    assert "| fused | 91.2 | 80.0–97.0 | 99.0 |" in card
    assert "97.5 % of them share a group" in card


@pytest.fixture
def hub(tmp_path):
    """A local server that answers as the Hugging Face Hub does for one repository, maker/waves."""
    repository = tmp_path / "repository"
    save_stream(repository, bundle_of(RGB), "rgb", {"a": torch.arange(3)})
    commit = "c" * 40
    sizes = {path.name: path.stat().st_size for path in repository.iterdir()}
    names = sorted(sizes)

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self._answer(body=True)

        def do_HEAD(self):
            self._answer(body=False)

        def _answer(self, body):
            if self.path.startswith("/api/models/maker/waves/tree/"):
                files = [{"type": "file", "path": name, "oid": name, "size": sizes[name]} for name in names]
                content = json.dumps(files).encode()
            elif self.path.startswith("/api/models/maker/waves"):
                listing = {"id": "maker/waves", "sha": commit, "siblings": [{"rfilename": name} for name in names]}
                content = json.dumps(listing).encode()
            elif self.path.startswith(f"/maker/waves/resolve/{commit}/"):
                content = (repository / self.path.rsplit("/", 1)[1]).read_bytes()
            else:
                content = None
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.send_header("ETag", '"' + str(hash(content)) + '"')
            self.send_header("X-Repo-Commit", commit)
            self.end_headers()
            if body and content is not None:
                self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "cache")}
    server.shutdown()
    thread.join()
    server.server_close()


def fetched_in_a_new_process(name, environment):
    """What `rgbflow` says of a hub id; the hub's address is read when its library is imported."""
    code = (
        "import sys; from rgbflow.bundle import fetch_bundle, load_bundle, load_weights\n"
        "from rgbflow.errors import InputError\n"
        "try:\n"
        "    folder = fetch_bundle(sys.argv[1])\n"
        "    print(load_bundle(folder).classes, load_weights(folder, 'rgb')['a'].tolist())\n"
        "except InputError as error:\n"
        "    print(error)"
    )
    command = [sys.executable, "-c", code, name]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True).stdout


def test_a_bundle_is_fetched_from_the_hub_by_its_id(hub):
    assert fetched_in_a_new_process("maker/waves", hub) == "('jump', 'wave') [0, 1, 2]\n"


def test_an_id_that_the_hub_does_not_know_is_refused_in_one_line(hub):
    told = fetched_in_a_new_process("maker/nothing", hub)
    assert told.startswith("bundle maker/nothing is neither a folder here nor reachable")
    assert told.count("\n") == 1
