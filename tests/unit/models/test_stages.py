import json

import pytest

from models.training.stages import STAGE_NAME, Unfinished, Work, key_of


@pytest.fixture
def said():
    return []


@pytest.fixture
def work(tmp_path, said):
    return Work(tmp_path, said.append)


def counting(calls, name):
    def make(folder):
        calls.append(name)
        (folder / "out").write_text(name)

    return make


def test_a_second_call_does_nothing_and_a_change_makes_it_again(work, said):
    calls = []
    first = work.stage("split", {"folds": 5}, counting(calls, "a"))
    assert work.stage("split", {"folds": 5}, counting(calls, "b")) == first
    second = work.stage("split", {"folds": 4}, counting(calls, "c"))
    assert (calls, first == second) == (["a", "c"], False)
    assert work.stage("split", {"folds": 5}, counting(calls, "d")) == first  # going back finds it again
    assert calls == ["a", "c"]
    assert [one.words for one in said if one.stage == "split"][2] == "done before"


def test_a_stage_that_was_interrupted_finds_what_it_left(work):
    def stopped(folder):
        (folder / "half").write_text("1")
        raise Unfinished

    with pytest.raises(Unfinished):
        work.stage("train", {}, stopped)
    found = []
    folder = work.stage("train", {}, lambda place: found.append((place / "half").read_text()))
    assert found == ["1"]
    assert json.loads((folder / STAGE_NAME).read_text())["stage"] == "train"


def test_beginning_anew_forgets_what_was_half_done_only(tmp_path, work):
    done = work.stage("split", {}, counting([], "a"))
    (tmp_path / f"train-{key_of({'stage': 'train'})[:12]}").mkdir()
    (tmp_path / f"train-{key_of({'stage': 'train'})[:12]}" / "half").write_text("1")
    anew = Work(tmp_path, lambda _: None, fresh=True)
    assert anew.stage("split", {}, counting([], "b")) == done
    assert (done / "out").read_text() == "a"
    assert not (anew.stage("train", {}, counting([], "c")) / "half").exists()


def test_an_output_that_went_missing_is_made_again(work, tmp_path):
    calls = []
    place = tmp_path / "package"
    for _ in range(3):
        work.stage(
            "package",
            {},
            lambda _: (calls.append(1), place.write_text("x")),
            is_whole=lambda _: place.is_file(),
        )
    place.unlink()
    work.stage("package", {}, lambda _: calls.append(2), is_whole=lambda _: place.is_file())
    assert calls == [1, 2]


def test_a_key_depends_on_values_and_not_on_their_order():
    assert key_of({"a": 1, "b": [1, 2]}) == key_of({"b": [1, 2], "a": 1}) != key_of({"a": 1, "b": [2, 1]})
