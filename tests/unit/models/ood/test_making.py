"""The block of a package: made from cases by one function, and able to tell other images by features."""

import json
import shutil

import numpy as np
import pytest
from generated_inputs import OTHERS, breast_cases, breast_like
from narrow_package import write_narrow_package
from sklearn.metrics import roc_auc_score

from models.amending import next_version, with_section
from models.ood import making
from models.ood.block import OodAction
from models.ood.fitting import TooFewCases
from models.ood.gauge import Gauge, read_gauge
from models.ood.making import FILE, add_ood, collect, make_ood
from models.package import PackageError, load_package
from models.predictor import Predictor
from models.training.cases import CasesError
from models.training.package_cases import package_cases

CASES, NEW = 24, 8


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """A package without a recipe of ours: it is judged on files of its own."""
    folder = tmp_path_factory.mktemp("bare") / "my-breast"
    return write_narrow_package(folder, "breast-us-lesion", package_id="my-breast")


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    for case in breast_cases(CASES):
        np.savez(
            folder / f"{case.name}.npz", image=case.volume.array, mask=case.mask, class_name=case.class_name
        )
    return folder


@pytest.fixture(scope="session")
def written(bare, files, tmp_path_factory):
    out = tmp_path_factory.mktemp("ood") / "my-breast"
    return add_ood(bare, files, out, version="1.1.0", released="2026-11-22")


def distances(gauge: Gauge, predictor: Predictor, volumes):
    vectors = np.array([making.features_of(predictor, volume) for volume in volumes])
    return gauge.statistics.distance(vectors)


def separation(gauge, predictor):
    """AUROC of new cases of the same kind against inputs of each other kind."""
    usual = distances(gauge, predictor, [breast_like(1000 + seed) for seed in range(NEW)])
    found = {}
    for name, make in OTHERS.items():
        other = distances(gauge, predictor, [make(seed) for seed in range(NEW)])
        found[name] = roc_auc_score([0] * NEW + [1] * NEW, [*usual, *other])
    return found


def test_other_kinds_of_image_lie_farther_than_new_cases_of_the_same_kind(written):
    package, _ = written
    predictor = Predictor(package, device="cpu")
    assert min(separation(predictor.gauge, predictor).values()) >= 0.99


def test_that_comparison_fails_when_features_are_ignored(bare, files, monkeypatch):
    """Numbers that have nothing to do with the image in place of features tell nothing."""
    rng = np.random.default_rng(4)
    monkeypatch.setattr(making, "case_vector", lambda found: rng.normal(size=320))
    predictor = Predictor(bare, device="cpu")
    made = make_ood(collect(predictor, package_cases(bare, files)), split_sha256=None)
    assert max(separation(made.gauge, predictor).values()) < 0.9


def test_features_that_are_the_same_for_all_inputs_make_no_block(bare, files, monkeypatch):
    monkeypatch.setattr(making, "case_vector", lambda found: np.ones(320))
    with pytest.raises(TooFewCases):
        make_ood(collect(Predictor(bare, device="cpu"), package_cases(bare, files)), split_sha256=None)


def test_the_package_says_of_each_input_whether_it_is_usual_near_or_far(written):
    package, made = written
    predictor = Predictor(package, device="cpu")
    for make in OTHERS.values():
        prediction = predictor.predict(make(1))
        assert prediction.likeness.standing == "far"
        assert prediction.likeness.is_refused
        assert any("Unlike the cases" in note for note in prediction.notes)
    said = [predictor.predict(case.volume).likeness.standing for case in breast_cases(CASES)]
    assert said.count("usual") >= 0.8 * CASES
    assert "far" not in said
    assert made.block.n == made.block.n_unseen == CASES


def test_what_the_worker_measures_is_what_was_fitted(written):
    package, made = written
    predictor = Predictor(package, device="cpu")
    volume = breast_like(3)
    vector = making.features_of(predictor, volume)
    assert predictor.predict(volume).likeness.distance == pytest.approx(
        float(made.statistics.distance(vector[None])[0]), rel=1e-3
    )


def test_the_package_with_a_block_loads_passes_its_golden_case_and_says_so_on_its_card(written, bare):
    package, made = written
    assert package.manifest.version == "1.1.0"
    assert package.manifest.ood == made.block
    assert package.manifest.file("ood").path == FILE
    assert Predictor(package, device="cpu").verify_golden().passed
    card = package.path("card").read_text()
    assert "Inputs unlike the training cases" in card
    assert f"{made.block.limits.far:.2f}" in card
    # The one it was made from is as it was.
    assert load_package(bare.folder).manifest.ood is None


def test_a_package_may_be_amended_in_place_and_again(written, files, tmp_path):
    folder = shutil.copytree(written[0].folder, tmp_path / "again")
    package, _ = add_ood(load_package(folder), files, folder, version=None, released="2026-11-22", far="flag")
    assert package.folder == folder
    assert package.manifest.version == "1.1.1"
    assert package.manifest.ood.action == OodAction(far="flag")
    assert package.path("card").read_text().count("## Inputs unlike") == 1
    likeness = Predictor(package, device="cpu").predict(OTHERS["noise"](2)).likeness
    assert (likeness.standing, likeness.is_refused) == ("far", False)


def test_a_package_without_a_block_behaves_as_before(bare, written):
    volume = breast_like(5)
    plain, taught = (Predictor(one, device="cpu").predict(volume) for one in (bare, written[0]))
    assert plain.likeness is None
    assert np.array_equal(plain.probability, taught.probability)
    assert plain.class_scores == taught.class_scores


def test_features_that_are_no_numbers_are_far(written):
    gauge = read_gauge(written[0])
    assert gauge.judge(breast_like(1), np.full(320, np.nan)).standing == "far"


def test_statistics_of_another_network_are_refused_by_name(written):
    with pytest.raises(PackageError, match="gives 16 features"):
        read_gauge(written[0]).judge(breast_like(1), np.zeros(16))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda c: c.pop("ood"), "ood.file"),
        (lambda c: c["ood"].update(file="weights.safetensors"), "ood.file"),
        (lambda c: c["ood"].update(file="../x"), "ood.file"),
        (lambda c: c["ood"]["limits"].update(near=9e5), "near must be below"),
        (lambda c: c["ood"]["limits"].update(far=1e9), "ood.limits.far"),
        (lambda c: c["ood"].update(components=33), "ood.components"),
        (lambda c: c["ood"].update(features=10**9), "ood.features"),
        (lambda c: c["ood"].update(features=321), "declared is float32"),
        (lambda c: c["ood"]["inputs"].append({"name": "patient", "low": 0, "high": 1}), "ood.inputs"),
        (lambda c: c["ood"]["action"].update(far="ignore"), "ood.action.far"),
    ],
    ids=[
        "no block",
        "other file",
        "outside",
        "order",
        "limit",
        "components",
        "features",
        "shape",
        "input",
        "action",
    ],
)
def test_a_block_that_does_not_fit_is_refused_by_field(written, tmp_path, edit, words):
    folder = shutil.copytree(written[0].folder, tmp_path / "broken")
    content = json.loads((folder / "model.json").read_text())
    edit(content)
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(PackageError) as caught:
        Predictor(load_package(folder), device="cpu")
    assert words in str(caught.value)


def test_changed_statistics_are_refused_by_their_checksum(written, tmp_path):
    folder = shutil.copytree(written[0].folder, tmp_path / "changed")
    content = bytearray((folder / FILE).read_bytes())
    content[-1] ^= 1
    (folder / FILE).write_bytes(content)
    with pytest.raises(PackageError, match="checksum"):
        load_package(folder)


def test_a_folder_without_cases_is_refused_with_what_it_should_hold(bare, tmp_path):
    with pytest.raises(CasesError, match="npz"):
        package_cases(bare, tmp_path)


def test_hooks_are_gone_after_a_prediction(written):
    predictor = Predictor(written[0], device="cpu")
    predictor.predict(breast_like(1))
    hooks = [module._forward_hooks for module in predictor.network.modules()]
    assert not any(hooks)


def test_versions_count_up_and_sections_are_replaced():
    assert next_version("1.2.9") == "1.2.10"
    card = "# T\n\n## A\n\nold\n\n## B\n\nkept\n"
    assert with_section(card, "A", ["new"]) == "# T\n\n## B\n\nkept\n\n## A\n\nnew\n"
