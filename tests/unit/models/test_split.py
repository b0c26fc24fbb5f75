import pytest

from models.training.cases import Listed
from models.training.split import (
    EXCLUDED,
    SplitError,
    check_against_folder,
    draw_folds,
    read_split,
    split_path,
    write_split,
)


def listed(count=40):
    return [Listed(f"c{i:02d}", f"g{i // 2}", "ab"[(i // 2) % 2], f"{i:064x}") for i in range(count)]


def frozen(tmp_path, items, folds):
    path = tmp_path / "split.csv"
    write_split(path, items, folds)
    return path


def test_folds_keep_groups_together_and_strata_balanced(tmp_path):
    items = listed()
    split = read_split(frozen(tmp_path, items, draw_folds(items, folds=5, seed=1)))
    assert {item.group for item in split.scored()}.isdisjoint(item.group for item in split.training())
    assert len(split.scored()) == 8
    assert sorted(item.stratum for item in split.scored()) == ["a"] * 4 + ["b"] * 4


def test_a_group_whose_copies_contradict_each_other_is_on_neither_side(tmp_path):
    items = [*listed(), Listed("x", "g0", "b", "f" * 64)]
    folds = draw_folds(items, folds=5, seed=1)
    assert {name for name, fold in folds.items() if fold == EXCLUDED} == {"c00", "c01", "x"}


@pytest.mark.parametrize("leak", ["group", "content"])
def test_a_planted_leak_is_refused_by_name(tmp_path, leak):
    items = listed()
    folds = draw_folds(items, folds=5, seed=1)
    victim = next(item for item in items if folds[item.name] != 0)
    source = next(item for item in items if folds[item.name] == 0)
    planted = Listed(
        "planted",
        victim.group if leak == "group" else "new",
        victim.stratum,
        source.sha256 if leak == "content" else "e" * 64,
    )
    folds["planted"] = 0 if leak == "group" else folds[victim.name]
    with pytest.raises(SplitError, match=f"share one {leak}"):
        read_split(frozen(tmp_path, [*items, planted], folds))


def test_a_folder_with_other_content_missing_or_unknown_cases_is_refused(tmp_path):
    items = listed()
    split = read_split(frozen(tmp_path, items, draw_folds(items, folds=5, seed=1)))
    check_against_folder(split, items)
    with pytest.raises(SplitError, match="not in the data folder"):
        check_against_folder(split, items[1:])
    with pytest.raises(SplitError, match="other content"):
        check_against_folder(split, [Listed("c00", "g0", "a", "0" * 63 + "9"), *items[1:]])
    with pytest.raises(SplitError, match="not in the split"):
        check_against_folder(split, [*items, Listed("new", "gn", "a", "a" * 64)])


@pytest.mark.parametrize(("kind", "scored"), [("brain-flair", 21), ("breast-us", 131)])
def test_the_frozen_splits_are_whole(kind, scored):
    split = read_split(split_path(kind))
    assert len(split.scored()) == scored
    assert len(split.training()) + len(split.scored()) + len(split.excluded()) == len(split.items)


def test_the_eight_contradictory_groups_of_the_breast_images_are_left_out():
    split = read_split(split_path("breast-us"))
    assert len({item.group for item in split.excluded()}) == 8
