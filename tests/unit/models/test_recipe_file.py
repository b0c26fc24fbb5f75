"""A recipe file: what is accepted, how faults are named, what stays the same when packages are compared."""

import hashlib
from pathlib import Path

import pytest
import yaml

from models.package import installed_packages_folder, load_package
from models.training.recipe_file import (
    SHIPPED,
    RecipeError,
    UnknownRecipe,
    read_recipe,
    recipe_path,
    shipped_path,
    shipped_recipe,
)
from models.training.starting import starting_recipe


@pytest.fixture
def recipe(tmp_path):
    """A file with the recipe people begin with; `edit` replaces text in it."""
    path = tmp_path / "mine.yaml"
    path.write_text(starting_recipe("mine", "cases"), encoding="utf-8")

    def edit(old, new):
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return path

    edit.path = path
    return edit


def faults(path, *overrides):
    with pytest.raises(RecipeError) as caught:
        read_recipe(path, overrides)
    return [str(problem) for problem in caught.value.problems]


def line_with(path, text):
    return next(n for n, line in enumerate(path.read_text().splitlines(), 1) if text in line)


PACKAGED = [name for name in SHIPPED if (installed_packages_folder() / name).is_dir()]


@pytest.mark.parametrize("name", PACKAGED)
def test_shipped_recipes_declare_what_the_shipped_packages_declare(name):
    recipe = shipped_recipe(name)
    manifest = load_package(installed_packages_folder() / name).manifest.model_dump(mode="json")
    found = {
        "title": recipe.title,
        "summary": recipe.summary,
        "task": recipe.task.model_dump(mode="json"),
        "inputs": [recipe.input.model_dump(mode="json")],
        "findings": recipe.coded_findings.model_dump(mode="json"),
        "postprocess": [step.model_dump(mode="json") for step in recipe.postprocess],
        "operating_points": [point.model_dump(mode="json") for point in recipe.operating_points],
        "preprocess": [step.model_dump(mode="json") for step in recipe.preprocess],
        "card": recipe.card.model_dump(mode="json"),
        "network": recipe.run.network.model_dump(mode="json"),
    }
    assert found == {key: manifest[key] for key in found}


def test_the_hash_of_a_run_is_that_of_its_settings_in_one_fixed_order():
    """Checkpoints and packages name it: a new field at its default, or another order, must not change it."""
    assert shipped_recipe("brain-flair-lesion").run.sha256.startswith("c1ff24aa4f950de7")
    run = shipped_recipe("breast-us-lesion").run
    assert run.sha256.startswith("3a6017fa5ef98eb3")
    assert run.model_copy(update={"weight_decay": 0.06}).sha256 != run.sha256


def test_the_recipe_to_begin_with_is_valid_and_survives_being_resolved(recipe, tmp_path):
    read = read_recipe(recipe.path)
    assert (read.id, read.kind, read.classes) == ("mine", "own", ("normal", "dark", "bright"))
    again = tmp_path / "resolved.yaml"
    again.write_text(read.resolved(), encoding="utf-8")
    assert read_recipe(again) == read


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("  steps: 400", "  stepz: 400", "training.stepz", "Did you mean 'steps'?"),
        ("  steps: 400", "  steps: many", "training.steps", "found 'many'"),
        ("  steps: 400", "  steps: 0", "training.steps", "greater than or equal to 1"),
        (
            "reader: table",
            "reader: folders",
            "data.reader",
            "there is no reader 'folders'. Known: 'brain-flair'",
        ),
        ("  table: cases.csv", "  tables: cases.csv", "data.tables", "Did you mean 'table'?"),
        ("rows: 64, columns: 64}", "rows: 63, columns: 64}", "preprocess[1].rows", "multiple of 32"),
        (
            "registry: effnet_lite0_unet@1",
            "registry: torch.nn.Linear",
            "network.registry",
            "there is no registry",
        ),
        ("unit: images  ", "unit: pictures", "data.unit", "'patients' or 'images'"),
    ],
    ids=["misspelt", "no-number", "too-small", "reader", "in-a-reader", "in-a-list", "network", "choice"],
)
def test_a_fault_names_file_line_place_and_remedy(recipe, old, new, place, words):
    path = recipe(old, new)
    (fault,) = [one for one in faults(path) if words in one]
    assert fault.startswith(f"{path} line {line_with(path, new.split(',')[0].strip())}: {place}: ")


def test_every_fault_is_named_at_once(recipe):
    recipe("  steps: 400", "  steps: many")
    assert len(faults(recipe("  folds: 4", "  folds: 1"))) == 2


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("  classes: 3", "  classes: 2", "network.classes is 2"),
        ("class_name: normal}", "class_name: nothing}", "image_gate names the class 'nothing'"),
        ("judging:\n  length_unit: px", "judging: null\nx:\n  length_unit: px", "there is no such setting"),
    ],
    ids=["classes", "gate", "judging"],
)
def test_parts_that_contradict_each_other_are_refused(recipe, old, new, words):
    assert any(words in fault for fault in faults(recipe(old, new)))


def test_a_network_that_cannot_be_trained_here_is_refused_by_name(recipe):
    path = recipe.path
    tree = yaml.safe_load(path.read_text())
    tree["network"] = {
        "registry": "onnx@1",
        "dimensions": 2,
        "in_channels": 1,
        "heads": 2,
        "input": "x",
        "output": "y",
        "one_at_a_time": False,
    }
    tree["findings"]["classes"], tree["postprocess"] = [], tree["postprocess"][:1]
    path.write_text(yaml.safe_dump(tree))
    assert any("onnx@1 can be imported and run, but not trained here" in one for one in faults(path))


def test_nothing_is_built_from_a_tag(recipe):
    path = recipe("  steps: 400", "  steps: !!python/object/apply:os.getcwd []")
    (fault,) = faults(path)
    assert "not valid YAML" in fault


def test_overrides_replace_values_and_are_named_in_faults(recipe):
    read = read_recipe(
        recipe.path,
        ["training.steps=7", "preprocess.1.rows=96", "fine_tuning=null", "training.weight_decay=1e-3"],
    )
    assert (read.training.steps, read.preprocess[1].rows, read.training.weight_decay) == (7, 96, 1e-3)
    assert faults(recipe.path, "training.stepz=7") == [
        "--set training.stepz=7: training.stepz: there is no such setting. Did you mean 'steps'?"
    ]
    assert faults(recipe.path, "training.steps=x")[0].startswith("--set training.steps=x: training.steps: ")
    assert "write it as place=value" in faults(recipe.path, "training.steps")[0]
    assert "there is no 9 in this list" in faults(recipe.path, "preprocess.9=1")[0]
    assert "is no section here" in faults(recipe.path, "id.x=1")[0]


def test_a_value_at_another_place_gives_another_hash(recipe):
    def sha256(*overrides):
        return hashlib.sha256(read_recipe(recipe.path, overrides).resolved().encode()).hexdigest()

    assert sha256() == sha256("training.steps=400") != sha256("training.steps=401")


def test_a_recipe_is_found_by_path_or_id_and_others_are_refused(recipe):
    assert recipe_path(str(recipe.path)) == recipe.path
    assert recipe_path("breast-us-lesion") == shipped_path("breast-us-lesion")
    with pytest.raises(UnknownRecipe, match="brain-flair-lesion, breast-us-lesion"):
        recipe_path("breast")
    with pytest.raises(RecipeError, match="preread models init"):
        read_recipe(Path("nowhere.yaml"))


def test_thresholds_of_the_operating_point_are_those_of_the_steps():
    (point,) = shipped_recipe("brain-flair-lesion").operating_points
    assert point.thresholds == {"probability": 0.5, "peak": 0.7, "minimum_ml": 0.15}
