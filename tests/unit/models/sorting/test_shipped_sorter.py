"""The shipped sorter: whole, able to run here, as good as its gates ask, and honest about it."""

import pytest

from models.evaluation.gates import judge_gate, read_gates
from models.package import installed_packages_folder
from models.sorting.judging import METRICS
from models.sorting.package import list_sorters
from models.sorting.recipe import read_sorter_recipe, shipped_recipe_path
from models.sorting.sorter import Sorter

SHIPPED = "series-sorter"


@pytest.fixture(scope="module")
def package():
    (listing,) = list_sorters([installed_packages_folder()])
    assert listing.error is None
    assert listing.package.manifest.id == SHIPPED
    return listing.package


def test_its_golden_case_comes_out_and_knows_heads_breasts_trunks_and_nothing(package):
    report = Sorter(package).verify_golden()
    assert report.passed, report.message
    said = {answer for question, answer in package.manifest.golden.answers if question == "body_part"}
    assert said == {"head", "breast", "trunk", "unknown"}


def test_it_is_small(package):
    assert package.manifest.runtime.parameters <= 2_000_000
    assert next(item.bytes for item in package.manifest.files if item.role == "weights") <= 3_000_000


def test_it_is_what_the_shipped_recipe_makes(package):
    recipe = read_sorter_recipe(shipped_recipe_path())
    manifest = package.manifest
    assert manifest.training.recipe_sha256 == recipe.sha256
    assert manifest.card == recipe.card
    assert [question.asked(0, 0, "any") for question in recipe.questions] == [
        question.model_copy(update={"threshold": 0.0, "sure": 0.0, "chosen_on": "any"})
        for question in manifest.questions
    ]


def test_the_declared_figures_pass_the_gates(package):
    rows = {(row.metric, row.subset): row for row in package.manifest.evaluation}
    for gate in read_gates(SHIPPED).gates:
        outcome = judge_gate(gate, rows.get((gate.metric, gate.subset)))
        assert outcome.passed, f"{outcome.demand}: {outcome.value}"


def test_the_card_says_every_figure_licence_and_limit(package):
    card = package.path("card").read_text(encoding="utf-8")
    for row in package.manifest.evaluation:
        assert row.ci95[0] <= row.value <= row.ci95[1]
        assert row.metric.startswith(METRICS)
        assert f"{row.value:.3f}" in card
    for sentence in (*package.manifest.card.limits, *package.manifest.card.not_for):
        assert sentence in card
    for item in package.manifest.training.data:
        assert item.licence in card
