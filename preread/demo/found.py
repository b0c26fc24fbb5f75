"""Which DICOM objects lie below a folder, zip files included, and why the other files cannot be sent.

Only headers are kept; the bytes are read again when they are sent, so a folder may be larger than memory.
What is sent is the dataset exactly as it lies in the file.
"""

import io
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

ZIP_MARK = "!"  # between the name of a zip file and that of a member
FILE_BYTES_MAX = 4 << 30  # a member of a zip may claim any size; the listener's own limit is the same
INFLATED_BYTES_MAX = 64 << 20
NAMED_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True)
class Found:
    """One object that can be sent.

    `name` is the file, for a zip `archive.zip!member`; `read` gives the encoded dataset, without file meta.
    """

    name: str
    sop_class: str
    sop_uid: str
    study_uid: str
    series_uid: str
    transfer_syntax: str
    modality: str
    description: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Unsendable:
    """One file that is not sent, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: not sent: {self.reason}"


@dataclass(frozen=True)
class FoundStudy:
    """The objects of one Study Instance UID, in the order they were found."""

    study_uid: str
    objects: tuple[Found, ...]

    @property
    def title(self) -> str:
        """Description and the file or zip file it was found in, to tell studies of one description apart."""
        return f"{self.description} · {self.objects[0].name.partition(ZIP_MARK)[0]}"

    @property
    def description(self) -> str:
        """Modalities and study description, as the worklist shows them."""
        modalities = sorted({found.modality for found in self.objects if found.modality})
        texts = [found.description for found in self.objects if found.description]
        modality = "/".join(modalities)
        text = texts[0] if texts else ""
        if text.upper().startswith(modality.upper()):
            return text or "study"
        return f"{modality} {text}".strip()


def find_studies(folder: Path) -> tuple[list[FoundStudy], list[Unsendable]]:
    """Every study below `folder`, and every file that cannot be sent.

    Raises
    ------
    NotADirectoryError
        `folder` is not a folder.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    studies: dict[str, list[Found]] = {}
    unsendable: list[Unsendable] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        # Other formats are zip files too (.npz, .docx); only what is called so, or nothing, is opened as one.
        is_zip = path.suffix.lower() in (".zip", "") and zipfile.is_zipfile(path)
        for item in _zip_members(path, name) if is_zip else [_examine_file(path, name)]:
            if isinstance(item, Unsendable):
                unsendable.append(item)
            else:
                studies.setdefault(item.study_uid, []).append(item)
    return [FoundStudy(uid, tuple(objects)) for uid, objects in studies.items()], unsendable


def study_of(files: Iterable[bytes], *, name: str) -> FoundStudy:
    """DICOM files in memory, of one study, as objects that can be sent; `name` is what they are called.

    Raises
    ------
    ValueError
        One of them cannot be sent; says why.
    """
    objects = []
    for number, content in enumerate(files):
        item = _examine(f"{name}{ZIP_MARK}{number + 1}", partial(io.BytesIO, content))
        if isinstance(item, Unsendable):
            raise ValueError(str(item))
        objects.append(item)
    return FoundStudy(objects[0].study_uid, tuple(objects))


def _examine_file(path: Path, name: str) -> Found | Unsendable:
    return _examine(name, lambda: path.open("rb"))


def _zip_members(path: Path, name: str) -> Iterator[Found | Unsendable]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        yield Unsendable(name, f"the zip file cannot be read ({error})")
        return
    for member in members:
        label = f"{name}{ZIP_MARK}{member.filename}"
        if member.file_size > FILE_BYTES_MAX:
            yield Unsendable(label, f"claims {member.file_size} bytes; at most {FILE_BYTES_MAX} are read")
            continue
        yield _examine(label, partial(_open_member, path, member.filename))


def _open_member(path: Path, member: str) -> BinaryIO:
    with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
        return io.BytesIO(stream.read(FILE_BYTES_MAX))


def _examine(name: str, open_file: Callable[[], BinaryIO]) -> Found | Unsendable:
    try:
        with open_file() as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd files are the point; what matters is refused below
            is_part10 = stream.read(132)[128:] == b"DICM"
            stream.seek(0)
            return _judged(name, _header(stream, is_part10), is_part10, open_file)
    except (InvalidDicomError, EOFError):
        return Unsendable(name, "it is not DICOM")
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:  # the last: an unknown zip method
        return Unsendable(name, f"it cannot be read ({error})")
    except Exception as error:  # noqa: BLE001  # pydicom raises whatever a damaged header leads to
        return Unsendable(name, f"its header cannot be read ({type(error).__name__})")


def _header(stream: BinaryIO, is_part10: bool) -> FileDataset:
    """The dataset without pixels; what is deflated is inflated up to a bound (pydicom inflates it all)."""
    if is_part10:
        meta = read_file_meta(stream)
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stream.read(), INFLATED_BYTES_MAX)
            dataset = read_dataset(io.BytesIO(head), False, True, stop_when=_is_pixels)
            return FileDataset(io.BytesIO(), dataset, file_meta=FileMetaDataset(meta))
        stream.seek(0)
    return dcmread(stream, stop_before_pixels=True, force=not is_part10)


def _is_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
    return int(tag) >= 0x7FE00008


def _judged(
    name: str, header: FileDataset, is_part10: bool, open_file: Callable[[], BinaryIO]
) -> Found | Unsendable:
    if header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return Unsendable(name, "it is a DICOMDIR, an index of files and not an object")
    if not is_part10 and not any(keyword in header for keyword in (*NAMED_UIDS, "Modality", "PatientID")):
        return Unsendable(name, "it is not DICOM")
    uids = {keyword: str(header.get(keyword) or "").strip() for keyword in NAMED_UIDS}
    missing = [keyword for keyword, uid in uids.items() if not uid]
    if missing:
        return Unsendable(name, f"it has no {', no '.join(missing)}")
    invalid = [keyword for keyword, uid in uids.items() if not UID(uid).is_valid]
    if invalid:
        return Unsendable(name, f"not a valid UID: {', '.join(invalid)}")
    return Found(
        name=name,
        sop_class=uids["SOPClassUID"],
        sop_uid=uids["SOPInstanceUID"],
        study_uid=uids["StudyInstanceUID"],
        series_uid=uids["SeriesInstanceUID"],
        transfer_syntax=_transfer_syntax(header),
        modality=str(header.get("Modality") or ""),
        description=str(header.get("StudyDescription") or ""),
        read=lambda: _dataset_bytes(open_file),
    )


def _transfer_syntax(header: FileDataset) -> str:
    """As the file meta says; without one, the encoding pydicom recognised."""
    declared = str(header.file_meta.get("TransferSyntaxUID") or "")
    if declared:
        return declared
    is_implicit, is_little_endian = header.original_encoding
    if is_implicit:
        return str(ImplicitVRLittleEndian)
    return str(ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian)


def read_file_meta(stream: BinaryIO) -> Dataset:
    """Preamble (where there is one) and file meta; `stream` then stands at the dataset."""

    def beyond_meta(tag: BaseTag, vr: str | None, length: int) -> bool:
        return tag.group != 2

    read_preamble(stream, force=True)
    return read_dataset(stream, False, True, stop_when=beyond_meta)


def _dataset_bytes(open_file: Callable[[], BinaryIO]) -> bytes:
    with open_file() as stream:
        read_file_meta(stream)
        return stream.read()
