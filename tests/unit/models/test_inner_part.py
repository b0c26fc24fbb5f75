from hypothesis import given
from hypothesis import strategies as st

from models.training.cases import Listed
from models.training.early_stopping import Best
from models.training.inner_part import inner_part
from models.training.split import Split, draw_folds


@st.composite
def grouped_items(draw):
    drawn = draw(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("ab")), min_size=5, max_size=60))
    groups = [(31, "a"), (32, "b"), (33, "a"), *drawn]  # as many groups as folds, or none can be drawn
    stratum_of: dict[int, str] = {}
    items = []
    for index, (group, stratum) in enumerate(groups):
        stratum = stratum_of.setdefault(group, stratum)
        items.append(Listed(f"c{index:02d}", f"g{group}", stratum, str(index)))
    return items


@given(items=grouped_items(), scored=st.integers(0, 2), share=st.floats(0.05, 0.9), seed=st.integers(0, 99))
def test_the_inner_part_holds_whole_groups_of_training_folds_and_never_the_scored_one(
    items, scored, share, seed
):
    split = Split(draw_folds(items, folds=3, seed=seed), {item.name: item for item in items}, "-")
    parts = inner_part(split, scored, share=share, seed=seed)
    assert sorted([*parts.training, *parts.inner], key=lambda item: item.name) == sorted(
        split.training(scored), key=lambda item: item.name
    )
    assert all(split.folds[item.name] not in (scored, -1) for item in parts.inner)
    assert not {item.group for item in parts.training} & {item.group for item in parts.inner}
    for stratum in {item.stratum for item in parts.inner}:
        assert any(item.stratum == stratum for item in parts.training)


def test_the_declared_share_of_each_stratum_is_held_back():
    items = [Listed(f"{index}", f"{index}", "ab"[index % 2], f"{index}") for index in range(80)]
    split = Split(
        {item.name: index // 2 % 2 for index, item in enumerate(items)}, {i.name: i for i in items}, "-"
    )
    parts = inner_part(split, 0, share=0.25, seed=1)
    assert [sum(item.stratum == stratum for item in parts.inner) for stratum in "ab"] == [5, 5]
    assert parts != inner_part(split, 0, share=0.25, seed=2)
    assert parts == inner_part(split, 0, share=0.25, seed=1)


def test_patience_counts_judgements_in_a_row_that_were_no_better():
    best = Best()
    for step, score in enumerate([0.2, 0.5, 0.5, 0.4], start=1):
        best = best.after(score, step)
    assert best == Best(0.5, 2, 2)
    assert best.has_run_out(2)
    assert not best.has_run_out(3)
    assert not best.has_run_out(None)
    assert best.after(0.51, 5) == Best(0.51, 5, 0)
