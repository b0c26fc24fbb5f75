"""From generated pictures to a package, stage by stage: once, again, after a change, after a stop."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch

from models.evaluation.report import write_report
from models.package import PackageError, load_package
from models.predictor import Predictor
from models.training import order as orders
from models.training.cases import CasesError
from models.training.judged_on import judged_on
from models.training.making import make_package
from models.training.order import Order
from models.training.readers import READERS
from models.training.recipe_file import read_recipe
from models.training.split import SplitError
from models.training.stages import STAGE_NAME, Unfinished, Work
from models.training.starting import starting_recipe, write_example

# A network of a few channels on small pictures: seconds. What it learns is not asked for here.
SMALL = (
    "training.steps=3",
    "training.batch=4",
    "network.decoder_channels=[8, 8, 4, 4]",
    "preprocess.1={step: fit_canvas, rows: 32, columns: 32}",
    "training.canvas_rows=32",
    "training.canvas_columns=32",
    "training.augment.rows=32",
    "training.augment.columns=32",
)


class Place:
    """A folder with example data and a recipe; `make` is one call of the command."""

    def __init__(self, folder):
        self.folder, self.work, self.data = folder, folder / "work", folder / "cases"
        write_example(self.data)
        self.recipe = folder / "ovals.yaml"
        self.recipe.write_text(starting_recipe("ovals", "cases"), encoding="utf-8")

    def make(self, *overrides, fresh=False, **order):
        done = []
        recipe = read_recipe(self.recipe, (*SMALL, *overrides))
        made = make_package(
            Order(
                recipe=recipe,
                recipe_folder=self.folder,
                data_folder=self.data,
                readers=READERS,
                generate=lambda like, count, seed: (),
                **order,
            ),
            Work(self.work, lambda said: done.append(said.stage) if said.words == "begun" else None, fresh),
        )
        return made, done

    def rows(self):
        with (self.data / "cases.csv").open(newline="") as stream:
            return list(csv.DictReader(stream))

    def rewrite(self, rows):
        with (self.data / "cases.csv").open("w", newline="") as stream:
            table = csv.DictWriter(stream, list(rows[0]))
            table.writeheader()
            table.writerows(rows)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole package with out-of-fold and naive figures, made once."""
    place = Place(tmp_path_factory.mktemp("finished"))
    place.made, place.done = place.make(
        "split.naive=true", "split.folds=3", out_of_fold=True, notes=("Three steps.",)
    )
    return place


@pytest.fixture
def copied(finished, tmp_path):
    """The same, to be changed."""
    place = object.__new__(Place)
    shutil.copytree(finished.folder, tmp_path / "copy")
    folder = tmp_path / "copy"
    place.folder, place.work, place.data, place.recipe = (
        folder,
        folder / "work",
        folder / "cases",
        folder / "ovals.yaml",
    )
    return place


NAIVE = ("split.naive=true", "split.folds=3")


def test_every_stage_is_done_in_order(finished):
    assert finished.done == [
        "prepare",
        "split",
        "train/fold-0",
        "train/fold-1",
        "train/fold-2",
        "evaluate/fold-0",
        "evaluate/fold-1",
        "evaluate/fold-2",
        "train/naive",
        "evaluate/naive",
        "package",
    ]


def test_the_package_loads_verifies_and_carries_recipe_and_split(finished):
    package = load_package(finished.work / "ovals")
    assert Predictor(package, device="cpu").verify_golden().passed
    on = judged_on(package)
    assert on.recipe.run == read_recipe(finished.recipe, (*SMALL, *NAIVE)).run
    assert on.recipe.data.folder is None
    assert package.manifest.training.recipe_sha256 == on.recipe.run.sha256
    scored = [row for row in package.manifest.evaluation if row.subset == "scored"]
    assert {row.split_sha256 for row in scored} == {on.split.sha256}


def test_the_figures_are_those_of_unseen_cases_with_intervals(finished):
    manifest = finished.made.package.manifest
    by_subset = {}
    for row in manifest.evaluation:
        by_subset.setdefault(row.subset, {})[row.metric] = row
        assert row.ci95[0] <= row.value <= row.ci95[1]
    assert set(by_subset) == {"scored", "frozen", "out-of-fold", "naive"}
    assert by_subset["scored"]["class_accuracy"].n == 12
    assert by_subset["out-of-fold"]["class_accuracy"].n == 36
    assert by_subset["out-of-fold"]["negatives_drawn_on"].n == 12
    assert {row.split_sha256 for row in by_subset["naive"].values()}.isdisjoint(
        {row.split_sha256 for row in by_subset["scored"].values()}
    )


def test_the_card_shows_the_naive_split_beside_the_honest_one_and_the_notes(finished):
    card = (finished.work / "ovals" / "CARD.md").read_text()
    assert "| figure, naive split |" in card
    assert "Three steps." in card
    assert "Split: `split.csv`" in card
    assert "Generated cases" not in card


def test_a_second_call_does_nothing(copied):
    _, done = copied.make(*NAIVE, out_of_fold=True, notes=("Three steps.",))
    assert done == []


def test_a_changed_threshold_is_judged_again_but_not_trained_again(copied):
    _, done = copied.make(*NAIVE, "postprocess.0.probability=0.4")
    assert done == ["evaluate/fold-0", "evaluate/naive", "package"]


def test_a_changed_rate_is_trained_again_but_not_prepared_again(copied):
    before = {path: path.stat().st_mtime_ns for path in (copied.work / "cache").iterdir()}
    _, done = copied.make(*NAIVE, "training.weight_decay=0.5", until="train")
    assert done == ["train/fold-0"]
    assert {path: path.stat().st_mtime_ns for path in (copied.work / "cache").iterdir()} == before


def test_a_changed_picture_or_mask_reaches_everything_that_rests_on_it(copied):
    from PIL import Image

    path = copied.data / "masks" / "p00-1.png"
    mask = np.asarray(Image.open(path)).copy()
    mask[0, 0] = 255
    Image.fromarray(mask).save(path)
    cached = len(list((copied.work / "cache").iterdir()))
    _, done = copied.make(*NAIVE, until="train")
    assert done == ["prepare", "split", "train/fold-0"]
    assert len(list((copied.work / "cache").iterdir())) == cached + 2  # one case, images and masks


def test_another_canvas_makes_another_cache(copied):
    cached = len(list((copied.work / "cache").iterdir()))
    copied.make(
        *NAIVE,
        "preprocess.1={step: fit_canvas, rows: 64, columns: 32}",
        "training.canvas_rows=64",
        until="cache",
    )
    assert len(list((copied.work / "cache").iterdir())) == 2 * cached


def test_one_fold_alone_is_trained_without_its_cases(copied):
    made, done = copied.make(*NAIVE, fold=1)
    assert done == []
    (run,) = made.runs
    assert (run.scored_fold, run.real_cases) == (1, 24)
    with pytest.raises(CasesError, match="there is no fold 7"):
        copied.make(*NAIVE, fold=7)


def test_a_stopped_training_goes_on_and_makes_the_same_weights(copied):
    with pytest.raises(Unfinished, match="stopped at step 0 of 4"):
        copied.make("training.steps=4", until="train", deadline_seconds=0.0)
    (half,) = [
        path.parent
        for path in (copied.work / "train").glob("*/checkpoint")
        if not (path.parent / STAGE_NAME).exists()
    ]
    _, done = copied.make("training.steps=4", until="train")
    assert done == ["train/fold-0"]
    again = object.__new__(Place)
    again.folder, again.data, again.recipe = copied.folder, copied.data, copied.recipe
    again.work = copied.folder / "again"
    again.make("training.steps=4", until="train")
    (whole,) = (again.work / "train").glob("fold-0-*/weights.safetensors")
    assert whole.read_bytes() == (half / "weights.safetensors").read_bytes()


def test_a_package_that_was_removed_is_made_again(copied):
    shutil.rmtree(copied.work / "ovals")
    _, done = copied.make(*NAIVE, out_of_fold=True, notes=("Three steps.",))
    assert done == ["package"]
    load_package(copied.work / "ovals")


def test_the_run_refuses_to_start_when_a_patient_crosses_a_frozen_split(copied):
    """The leak is planted in the data: two patients turn out to be one, under a split that was frozen."""
    (frozen,) = copied.work.glob("split-*/split.csv")
    shutil.copyfile(frozen, copied.folder / "frozen.csv")
    folds = {row["name"]: row["fold"] for row in csv.DictReader(frozen.read_text().splitlines())}
    one = next(name for name, fold in folds.items() if fold == "0")
    other = next(name for name, fold in folds.items() if fold == "1")
    rows = copied.rows()
    for row in rows:
        if row["image"] in (f"images/{one}.png", f"images/{other}.png"):
            row["group"] = "the-same-woman"
    copied.rewrite(rows)
    with pytest.raises(SplitError, match="share one group"):
        copied.make("split.file=frozen.csv", until="train")


def test_a_leak_in_the_frozen_table_itself_is_refused_before_anything_is_written(copied):
    (frozen,) = copied.work.glob("split-*/split.csv")
    lines = frozen.read_text().splitlines()
    name, group, stratum, fold, sha256 = lines[1].split(",")
    lines[1] = ",".join((name, group, stratum, str((int(fold) + 1) % 3), sha256))
    (copied.folder / "frozen.csv").write_text("\n".join(lines) + "\n")
    before = sorted(copied.work.glob("split-*"))
    with pytest.raises(SplitError, match="share one group"):
        copied.make("split.file=frozen.csv")
    assert sorted(copied.work.glob("split-*")) == before


def test_the_same_frozen_split_gives_the_same_run(copied):
    (frozen,) = copied.work.glob("split-*/split.csv")
    shutil.copyfile(frozen, copied.folder / "frozen.csv")
    _, done = copied.make("split.file=frozen.csv", until="train")
    assert done == ["split"]


def test_bad_cases_stop_the_run_by_name_or_are_listed_in_the_card(copied):
    (copied.data / "images" / "p03-2.png").write_bytes(b"no picture")
    with pytest.raises(CasesError, match=r"p03-2: p03-2\.png cannot be read as a picture"):
        copied.make(*NAIVE)
    made, _ = copied.make("split.folds=3", "data.faults=exclude")
    assert len(made.cases.items) == 35
    card = (copied.work / "ovals" / "CARD.md").read_text()
    assert "Left out of the data: 1 (p03-2.png cannot be read as a picture" in card


def test_evaluation_takes_recipe_and_split_from_the_package(finished, tmp_path):
    package = load_package(finished.work / "ovals")
    evaluation = write_report(Predictor(package, device="cpu"), finished.work, tmp_path / "report")
    declared = {row.metric: row.value for row in package.manifest.evaluation if row.subset == "scored"}
    found = {figure.metric: figure.value for figure in evaluation.figures}
    assert {name: found[name] for name in declared} == pytest.approx(declared, abs=1e-4)
    assert (evaluation.dataset, evaluation.case_word, evaluation.length_unit) == ("ovals", "images", "px")
    assert (tmp_path / "report" / "report.html").is_file()


def test_evaluation_refuses_cases_that_are_not_those_of_the_split(finished, tmp_path):
    package = load_package(finished.work / "ovals")
    (prepared,) = finished.work.glob("prepare-*")
    shutil.copytree(prepared, tmp_path / "other")
    rows = (tmp_path / "other" / "cases.csv").read_text().splitlines()
    (tmp_path / "other" / "cases.csv").write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(SplitError, match="is not in the data folder"):
        judged_on(package).cases_in(tmp_path / "other")
    with pytest.raises(CasesError, match="holds no prepared cases"):
        judged_on(package).cases_in(tmp_path)


def test_a_recipe_that_was_changed_in_the_package_is_refused(finished, tmp_path):
    folder = shutil.copytree(finished.work / "ovals", tmp_path / "ovals")
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("steps: 3", "steps: 3000"))
    with pytest.raises(PackageError, match=r"recipe\.yaml"):
        load_package(folder)


def test_millimetres_need_a_spacing_in_every_case(finished, tmp_path):
    folder = finished.work
    recipe = read_recipe(finished.recipe, (*SMALL, *NAIVE, "judging.length_unit=mm"))
    from models.evaluation.scales import scale_in, scale_of

    case = judged_on(load_package(folder / "ovals")).cases_in(folder).load("p00-1")
    with pytest.raises(CasesError, match="case p00-1 has no spacing"):
        scale_in(case, scale_of(recipe), "own")


def test_the_record_of_a_stage_says_what_it_was_made_from(finished):
    (record,) = finished.work.glob(f"split-*/{STAGE_NAME}")
    content = json.loads(record.read_text())
    assert content["inputs"]["split"]["folds"] == 3
    assert content["key"].startswith(record.parent.name.removeprefix("split-"))


def test_stage_versions_are_part_of_what_a_stage_depends_on(copied, monkeypatch):
    monkeypatch.setitem(orders.VERSIONS, "split", 99)
    _, done = copied.make(*NAIVE, until="split")
    assert done == ["split"]


@pytest.fixture(autouse=True)
def _few_threads():
    assert torch.get_num_threads() == 1
