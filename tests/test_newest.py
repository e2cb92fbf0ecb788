"""A bundle that is replaced while it is in use, in the test's own rhythm."""

import shutil

import pytest

from rgbflow import InputError, newest
from rgbflow.atomic import replace_folder
from rgbflow.bundle import RECORD
from rgbflow.newest import ATTEMPTS, NewestBundle


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    monkeypatch.setattr(newest, "SECONDS_BETWEEN_LOOKS", 0.01)
    make(tmp_path / "bundle", "one")
    return tmp_path / "bundle"


def make(folder, words):
    new = folder.with_name("new")
    new.mkdir()
    (new / RECORD).write_text(words)
    replace_folder(new, folder)


def wait_for(condition):
    """Until it is true; the runner's own limit ends a wait in vain."""
    while not (found := condition()):
        pass
    return found


def test_the_newest_bundle_is_given_once(bundle):
    with NewestBundle(bundle, (bundle / RECORD).read_text) as following:
        assert following.take() is None
        make(bundle, "another")
        assert wait_for(following.take) == "another"
        assert following.take() is None
        shutil.rmtree(bundle)
        assert following.take() is None
        make(bundle, "a third")
        assert wait_for(following.take) == "a third"


def test_a_bundle_that_can_not_be_loaded_is_one_line_and_the_next_one_is_taken(bundle):
    lines, attempts = [], []

    def load():
        attempts.append(words := (bundle / RECORD).read_text())
        if words == "broken":
            raise InputError("it is broken")
        return words

    with NewestBundle(bundle, load, lines.append) as following:
        make(bundle, "broken")
        wait_for(lambda: lines)
        assert attempts == ["broken"] * ATTEMPTS
        make(bundle, "whole")
        assert wait_for(following.take) == "whole"
    assert lines == ["the new bundle can't be used, the former one goes on: it is broken"]
