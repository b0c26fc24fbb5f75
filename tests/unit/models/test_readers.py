"""What people have, read: pairs by name or by a table, pictures and NIfTI, and every fault named."""

import csv

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from models.training.cases import CasesError, list_cases, load_case
from models.training.prepared import FoundCase, LeftOut, write_prepared
from models.training.readers import read_pairs, read_table, read_volume
from models.training.sections import PairsData, TableData

ABOUT = {"name": "x", "licence": "x", "citation": "x", "unit": "images"}


def picture(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)


def nifti(path, array, affine):
    """`array` in our order (slices, rows, columns); the affine maps (column, row, slice) to RAS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), affine), path)


def noise(seed, shape=(20, 30)):
    return np.random.default_rng(seed).integers(0, 200, shape)


def spot(shape=(20, 30)):
    mask = np.zeros(shape)
    mask[5:9, 10:20] = 255
    return mask


@pytest.fixture
def table(tmp_path):
    """A folder of two pictures, one with a mask, and a function that writes the table."""
    for number in (1, 2):
        picture(tmp_path / f"images/a{number}.png", noise(number))
    picture(tmp_path / "masks/a1.png", spot())

    def write(*rows, columns=("image", "mask", "group", "class")):
        with (tmp_path / "cases.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([columns, *rows])
        return list(read_table(TableData(reader="table", **ABOUT), tmp_path, "image"))

    return write


def test_a_table_gives_image_mask_group_and_class(table):
    found = table(("images/a1.png", "masks/a1.png", "p1", "dark"), ("images/a2.png", "", "p1", "normal"))
    assert [(one.name, one.group, one.class_name) for one in found] == [
        ("a1", "p1", "dark"),
        ("a2", "p1", "normal"),
    ]
    assert np.array_equal(found[0].volume.array[0], noise(1))
    assert (found[0].mask.sum(), found[1].mask.sum()) == (40, 0)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (("images/a3.png", "", "p", ""), "a3.png is missing"),
        (("images/a1.png", "masks/a9.png", "p", ""), "a9.png is missing"),
        (("cases.csv", "", "p", ""), "neither NIfTI nor a picture"),
        (("", "", "p", ""), "line 2 names no image"),
    ],
    ids=["no-image", "no-mask", "no-picture", "empty"],
)
def test_a_row_that_cannot_be_used_is_left_out_with_the_reason(table, row, why):
    (one,) = table(row)
    assert isinstance(one, LeftOut)
    assert one.is_fault
    assert why in one.why


def test_a_mask_of_another_size_is_a_fault(table, tmp_path):
    picture(tmp_path / "masks/a2.png", spot((20, 31)))
    (one,) = table(("images/a2.png", "masks/a2.png", "p", ""))
    assert one.why == "its mask is 1 x 20 x 31 (slices, rows, columns), its image 1 x 20 x 30"


def test_a_table_with_other_columns_or_none_is_refused(table, tmp_path):
    with pytest.raises(CasesError, match="It needs image and mask"):
        table(("a", "b"), columns=("picture", "mask"))
    (tmp_path / "cases.csv").unlink()
    with pytest.raises(CasesError, match=r"cases\.csv is missing"):
        list(read_table(TableData(reader="table", **ABOUT), tmp_path, "image"))


def pairs(folder, **settings):
    return list(read_pairs(PairsData(reader="pairs", **ABOUT, **settings), folder, "series"))


def test_pairs_are_found_by_their_names_with_patient_and_class(tmp_path):
    affine = np.diag([0.9, 0.9, 4.0, 1.0])
    for name in ("p1_dark_a", "p1_dark_b", "p2_normal_a"):
        nifti(tmp_path / f"img/{name}.nii.gz", noise(3, (4, 20, 30)).astype(np.int16), affine)
        nifti(tmp_path / f"seg/{name}_m.nii.gz", np.stack([spot()] * 4).astype(np.uint8), affine)
    found = pairs(
        tmp_path,
        images="img/{case}.nii.gz",
        masks="seg/{case}_m.nii.gz",
        group="^(p[0-9]+)",
        class_name="_(.+)_",
    )
    assert [(one.name, one.group, one.class_name) for one in found] == [
        ("p1_dark_a", "p1", "dark"),
        ("p1_dark_b", "p1", "dark"),
        ("p2_normal_a", "p2", "normal"),
    ]
    assert found[0].volume.pixel_spacing_mm == pytest.approx((0.9, 0.9))
    assert found[0].mask.sum() == 160


def test_an_image_without_mask_and_a_mask_without_image_are_named(tmp_path):
    affine = np.eye(4)
    nifti(tmp_path / "images/a.nii.gz", noise(1, (2, 9, 9)).astype(np.int16), affine)
    nifti(tmp_path / "masks/b.nii.gz", np.ones((2, 9, 9), np.uint8), affine)
    assert [(one.name, one.is_fault) for one in pairs(tmp_path)] == [("b", True), ("a", True)]
    (stray, case) = pairs(tmp_path, missing_mask="nothing_there")
    assert (stray.name, case.mask.sum()) == ("b", 0)


def test_a_naming_rule_that_finds_nothing_in_a_name_is_refused(tmp_path):
    nifti(tmp_path / "images/a.nii.gz", noise(1, (2, 9, 9)).astype(np.int16), np.eye(4))
    nifti(tmp_path / "masks/a.nii.gz", np.ones((2, 9, 9), np.uint8), np.eye(4))
    with pytest.raises(CasesError, match=r"data\.group .* finds nothing in the name 'a'"):
        pairs(tmp_path, group="^p")
    with pytest.raises(CasesError, match="no regular expression"):
        pairs(tmp_path, group="(")
    with pytest.raises(CasesError, match=r"must hold \{case\} once"):
        pairs(tmp_path, images="images/*.nii.gz")


def test_a_mask_that_lies_elsewhere_is_a_fault_to_a_tenth_of_a_millimetre(tmp_path):
    array, mask = noise(1, (2, 9, 9)).astype(np.int16), np.ones((2, 9, 9), np.uint8)
    nifti(tmp_path / "images/a.nii.gz", array, np.eye(4))
    for shift, is_fault in ((0.05, False), (0.2, True)):
        moved = np.eye(4)
        moved[0, 3] = shift
        nifti(tmp_path / "masks/a.nii.gz", mask, moved)
        (one,) = pairs(tmp_path)
        assert isinstance(one, LeftOut) == is_fault
    assert "0.2 mm away from its image" in one.why


def test_a_mask_whose_axes_run_the_other_way_is_no_pair(tmp_path):
    nifti(tmp_path / "images/a.nii.gz", noise(1, (2, 9, 9)).astype(np.int16), np.eye(4))
    nifti(tmp_path / "masks/a.nii.gz", np.ones((2, 9, 9), np.uint8), np.diag([-1.0, 1, 1, 1]))
    (one,) = pairs(tmp_path)
    assert "away from its image" in one.why


def test_nifti_comes_with_its_geometry_in_lps(tmp_path):
    affine = np.array([[-0.5, 0, 0, 10], [0, 0.6, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1.0]])
    nifti(tmp_path / "a.nii", noise(1, (2, 9, 8)).astype(np.int16), affine)
    volume = read_volume(tmp_path / "a.nii")
    assert volume.array.shape == (2, 9, 8)
    assert volume.pixel_spacing_mm == pytest.approx((0.6, 0.5))
    assert volume.slice_spacing_mm == pytest.approx(3.0)
    assert volume.affine[:3, 3] == pytest.approx((-10, -20, 30))


def case(name="a", seed=1, class_name=None, mask=None):
    from models.volume import Volume

    image = noise(seed)[None].astype(np.uint8)
    return FoundCase(name, name, class_name, Volume(image), spot()[None] > 0 if mask is None else mask)


def test_prepared_cases_come_back_as_they_were(tmp_path):
    write_prepared(
        [case("b", 2, "dark"), case("a", 1, "normal")],
        tmp_path,
        ("normal", "dark"),
        faults_are_excluded=False,
    )
    listed = list_cases("own", tmp_path)
    assert [(one.name, one.class_name) for one in listed] == [("a", "normal"), ("b", "dark")]
    loaded = load_case("own", tmp_path, listed[1])
    assert loaded.class_name == "dark"
    assert np.array_equal(loaded.volume.array[0], noise(2))
    assert np.array_equal(loaded.mask[0], spot() > 0)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (case("a", 2), "another case has this name"),
        (case("a b"), "letters, digits"),
        (case("b", mask=np.zeros((1, 3, 3), bool)), "its mask is 1 x 3 x 3, its image 1 x 20 x 30"),
        (case("b", class_name="grey"), "its class is 'grey', the recipe knows normal, dark"),
        (LeftOut("b", "it is broken", True), "it is broken"),
    ],
    ids=["name-twice", "name", "size", "class", "reader"],
)
def test_a_bad_case_stops_everything_by_name_or_is_listed_as_excluded(tmp_path, bad, why):
    good = case("a", class_name="dark")
    with pytest.raises(CasesError, match="1 cases cannot be used") as caught:
        write_prepared([good, bad], tmp_path / "one", ("normal", "dark"), faults_are_excluded=False)
    assert f"{bad.name}: " in str(caught.value)
    assert why in str(caught.value)
    left = write_prepared([good, bad], tmp_path / "two", ("normal", "dark"), faults_are_excluded=True)
    assert [one.name for one in left] == [bad.name]
    assert why in (tmp_path / "two" / "excluded.csv").read_text()
    assert [one.name for one in list_cases("own", tmp_path / "two")] == ["a"]


def test_what_was_changed_after_it_was_prepared_is_refused(tmp_path):
    write_prepared([case()], tmp_path, (), faults_are_excluded=False)
    (listed,) = list_cases("own", tmp_path)
    with np.load(tmp_path / "cases/a.npz") as stored:
        arrays = {key: stored[key] for key in stored.files}
    np.savez_compressed(tmp_path / "cases/a.npz", **{**arrays, "mask": arrays["mask"] * 0})
    with pytest.raises(CasesError, match="was changed after it was prepared"):
        load_case("own", tmp_path, listed)


def test_strata_are_class_and_thirds_of_size(tmp_path):
    masks = []
    for rows in (0, 1, 2, 3):
        mask = np.zeros((1, 20, 30), bool)
        mask[0, :rows] = True
        masks.append(mask)
    write_prepared(
        [case(f"c{i}", i, "dark", mask) for i, mask in enumerate(masks)],
        tmp_path,
        (),
        faults_are_excluded=False,
    )
    assert [one.stratum for one in list_cases("own", tmp_path)] == [
        "dark nothing",
        "dark small",
        "dark medium",
        "dark large",
    ]


def numbered_labels():
    labels = np.zeros((1, 20, 30), np.uint8)
    labels[0, :5], labels[0, 5:9] = 1, 2
    return labels


def test_structures_keep_their_numbers_and_lesions_do_not(tmp_path):
    for structures, folder in ((2, tmp_path / "structures"), (0, tmp_path / "lesions")):
        write_prepared(
            [case(mask=numbered_labels())], folder, (), faults_are_excluded=False, structures=structures
        )
        (listed,) = list_cases("own", folder)
        kept = load_case("own", folder, listed).labels
        assert np.array_equal(kept, numbered_labels() if structures else numbered_labels() > 0)


def test_a_structure_that_the_recipe_does_not_know_is_a_fault(tmp_path):
    with pytest.raises(CasesError, match="its mask holds 2, the recipe knows the structures 1 to 1"):
        write_prepared([case(mask=numbered_labels())], tmp_path, (), faults_are_excluded=False, structures=1)


def test_structures_that_changed_places_are_seen_as_changed(tmp_path):
    write_prepared([case(mask=numbered_labels())], tmp_path, (), faults_are_excluded=False, structures=2)
    (listed,) = list_cases("own", tmp_path)
    with np.load(tmp_path / "cases/a.npz") as stored:
        arrays = {key: stored[key] for key in stored.files}
    swapped = np.array([0, 2, 1], np.uint8)[arrays["mask"]]
    np.savez_compressed(tmp_path / "cases/a.npz", **{**arrays, "mask": swapped})
    with pytest.raises(CasesError, match="was changed after it was prepared"):
        load_case("own", tmp_path, listed)
