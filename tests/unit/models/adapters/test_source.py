"""A foreign folder or zip gives its files, and nothing that leads out of it."""

import contextlib
import io
import json
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.adapters import source
from models.adapters.refusal import ImportRefusal
from models.adapters.source import opened, parse_json, parse_yaml, safe_name


def zipped(path: Path, members: dict[str, bytes], **mode: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(name)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = mode.get("mode", stat.S_IFREG | 0o644) << 16
            archive.writestr(member, content)
    return path


def test_a_folder_and_its_zip_hold_the_same_files(tmp_path):
    folder = tmp_path / "model"
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text('{"a": [1, 2.5, null, true]}')
    (folder / "fold_0/checkpoint_final.pth").write_bytes(b"weights")
    archive = zipped(
        tmp_path / "model.zip",
        {"plans.json": b'{"a": [1, 2.5, null, true]}', "fold_0/checkpoint_final.pth": b"weights"},
    )
    for place in (folder, archive):
        with opened(place) as found:
            assert list(found.sizes) == ["fold_0/checkpoint_final.pth", "plans.json"]
            assert found.named("plans.json") == ("plans.json",)
            assert found.json("plans.json") == {"a": [1, 2.5, None, True]}
            taken = found.take("fold_0/checkpoint_final.pth", tmp_path / f"{place.suffix}taken")
            assert taken.read_bytes() == b"weights"


@pytest.mark.parametrize(
    "name",
    ["../outside", "a/../../outside", "/etc/cron.d/x", "..", "C:/x", "a\\..\\..\\x", "a/..", "\\\\host\\x"],
)
def test_a_member_that_leads_out_is_refused_by_name_and_nothing_is_written(tmp_path, name):
    archive = zipped(tmp_path / "evil.zip", {"plans.json": b"{}", name: b"escaped"})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ImportRefusal, match="leads out of the archive"), opened(archive):
        pass
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_is_refused_in_a_folder_and_in_a_zip(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/plans.json").symlink_to("/etc/hostname")
    with pytest.raises(ImportRefusal, match=r"'plans\.json' is a link"), opened(tmp_path / "model"):
        pass
    archive = zipped(tmp_path / "x.zip", {"plans.json": b"/etc/hostname"}, mode=stat.S_IFLNK | 0o777)
    with pytest.raises(ImportRefusal, match=r"'plans\.json' is a link"), opened(archive):
        pass


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    archive = zipped(tmp_path / "bomb.zip", {"weights.pth": b"\0" * (4 << 20)})
    with pytest.raises(ImportRefusal, match="zip bomb"), opened(archive):
        pass


def test_a_member_with_more_bytes_than_it_says_is_not_taken(tmp_path):
    content = bytes(range(256)) * 64
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("plans.json", content)
    raw = bytearray(stored.getvalue())
    for signature, at in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        struct.pack_into("<I", raw, raw.index(signature) + at, 16)
    (tmp_path / "x.zip").write_bytes(raw)
    with opened(tmp_path / "x.zip") as found, pytest.raises(ImportRefusal):
        found.take("plans.json", tmp_path / "taken")
    assert not (tmp_path / "taken").exists() or (tmp_path / "taken").stat().st_size <= 16


def test_too_many_members_and_too_many_bytes_are_refused(tmp_path, monkeypatch):
    archive = zipped(tmp_path / "x.zip", {f"{i}": b"abc" for i in range(5)})
    monkeypatch.setattr(source, "MEMBERS_MAX", 4)
    with pytest.raises(ImportRefusal, match="more than 4 files"), opened(archive):
        pass
    monkeypatch.setattr(source, "MEMBERS_MAX", 9)
    monkeypatch.setattr(source, "TOTAL_BYTES_MAX", 14)
    with pytest.raises(ImportRefusal, match="GiB"), opened(archive):
        pass


def test_two_members_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("plans.json", "{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("plans.json", "[]")
    with pytest.raises(ImportRefusal, match="two members"), opened(tmp_path / "x.zip"):
        pass


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1e999}', "not finite"),
        ("[" * 100_000, "not readable"),
        ("[" * 60 + "]" * 60, "nested"),
        ("", "not readable"),
        ("\xff", "not readable"),
    ],
)
def test_json_that_is_not_plain_is_refused(text, words):
    with pytest.raises(ImportRefusal, match=words):
        parse_json(text.encode("latin-1"), "x.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("!!python/object/apply:os.system ['touch /tmp/x']", "not readable as plain YAML"),
        ("a: &a [1, 1]\nb: *a\n", "anchor or alias"),
        ("1: x", "no text"),
        ("a: 2020-01-01", "kind date"),
        ("a: .inf", "not finite"),
        ("a: [", "not readable"),
    ],
)
def test_yaml_that_is_not_plain_is_refused(text, words):
    with pytest.raises(ImportRefusal, match=words):
        parse_yaml(text.encode(), "x.yaml")


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(-1e9, 1e9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(plain)
@settings(deadline=None)
def test_plain_values_survive_json(values):
    assert parse_json(json.dumps(values).encode(), "x") == values


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_any_bytes_are_values_or_a_refusal(content):
    for parse in (parse_json, parse_yaml):
        with contextlib.suppress(ImportRefusal):
            parse(content, "x")


@given(st.text(alphabet="ab./\\:\0", max_size=10))
@settings(deadline=None)
def test_a_name_that_is_accepted_stays_inside(name):
    try:
        accepted = safe_name(name, Path("x.zip"))
    except ImportRefusal:
        return
    assert (Path("/root/inside") / accepted).resolve().is_relative_to("/root/inside")


@given(content=st.binary(max_size=200))
@settings(deadline=None)
def test_any_file_is_a_zip_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "x.zip"
    path.write_bytes(content)
    with pytest.raises(ImportRefusal), opened(path):
        pass
