import pytest

from models.training.cases import Listed
from models.training.split import (
    EXCLUDED,
    SplitError,
    check_against_folder,
    draw_folds,
    draw_naive_folds,
    read_split,
    split_path,
    write_split,
)


def listed(count=40):
    return [
        Listed(f"c{i:02d}", f"g{i // 2}", "ab"[(i // 2) % 2], f"{i:064x}", "", "ab"[(i // 2) % 2])
        for i in range(count)
    ]


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
    items = [*listed(), Listed("x", "g0", "b", "f" * 64, "", "b")]
    folds = draw_folds(items, folds=5, seed=1, exclude_contradictions=True)
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


def test_a_patient_with_cases_of_several_classes_stays_together_and_stays_in(tmp_path):
    items = [Listed(f"c{i}", f"p{i // 3}", "xyz"[i % 3], f"{i:064x}", "", "xyz"[i % 3]) for i in range(30)]
    split = read_split(frozen(tmp_path, items, draw_folds(items, folds=5, seed=1)))
    assert not split.excluded()
    assert {len(split.scored(fold)) for fold in split.fold_numbers} == {6}


def test_the_same_pixels_under_two_names_and_patients_are_one_group(tmp_path):
    items = [Listed(f"c{i}", f"p{i}", "x", f"{i // 2:064x}") for i in range(40)]
    folds = draw_folds(items, folds=5, seed=3)
    assert all(folds[f"c{i}"] == folds[f"c{i + 1}"] for i in range(0, 40, 2))
    read_split(frozen(tmp_path, items, folds))


def test_too_few_groups_for_the_folds_are_refused():
    with pytest.raises(SplitError, match="2 groups cannot be divided into 5 folds"):
        draw_folds(listed(4), folds=5, seed=1)


def test_strata_rarer_than_folds_do_not_stop_the_drawing():
    items = [Listed(f"c{i}", f"p{i}", "common" if i else "once", f"{i:064x}") for i in range(12)]
    assert sorted(draw_folds(items, folds=4, seed=1).values()) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    lonely = [Listed(f"c{i}", f"p{i}", f"s{i}", f"{i:064x}") for i in range(8)]
    assert len(set(draw_folds(lonely, folds=4, seed=1).values())) == 4


def test_a_naive_split_crosses_groups_and_is_refused_where_a_split_is_asked_for(tmp_path):
    items = [Listed(f"c{i:02d}", f"p{i // 6}", "ab"[i % 2], f"{i:064x}") for i in range(60)]
    path = frozen(tmp_path, items, draw_naive_folds(items, folds=5, seed=1))
    with pytest.raises(SplitError, match="share one group"):
        read_split(path)
    naive = read_split(path, is_naive=True)
    assert {item.group for item in naive.scored()} & {item.group for item in naive.training()}


def test_a_table_whose_groups_were_changed_hides_no_leak(tmp_path):
    """The frozen table says that two cases are strangers; the data say that they are one patient."""
    items = [Listed(f"c{i:02d}", f"g{i}", "a", f"{i:064x}") for i in range(10)]
    split = read_split(frozen(tmp_path, items, {item.name: i % 5 for i, item in enumerate(items)}))
    same = [*items[:1], Listed("c01", "g0", "a", items[1].sha256), *items[2:]]
    with pytest.raises(SplitError, match="share one group"):
        check_against_folder(split, same)
