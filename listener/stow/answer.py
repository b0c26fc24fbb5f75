"""PURE: what became of each instance, as HTTP status and as dataset (PS3.18 sections 10.5.3 and I.2).

Both forms, DICOM JSON (PS3.18 F) and native XML (PS3.19 A.1), are written from one tree.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from listener.admission import CANNOT_UNDERSTAND, OUT_OF_RESOURCES

Form = Literal["application/dicom+json", "application/dicom+xml"]
JSON: Form = "application/dicom+json"
XML: Form = "application/dicom+xml"

_FORMS: dict[str, Form] = {
    "*/*": JSON,
    "application/*": JSON,
    "application/dicom+json": JSON,
    "application/json": JSON,
    "application/dicom+xml": XML,
    "application/xml": XML,
    "text/xml": XML,
}
_NATIVE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one instance: UIDs, empty when not known, and its status, 0 when it is durable."""

    sop_class: str
    sop_instance: str
    status: int


@dataclass(frozen=True, slots=True)
class _Attribute:
    tag: str
    vr: str
    keyword: str
    values: Sequence[str | int]
    items: Sequence[Sequence["_Attribute"]] = ()


def form_of(accept: str) -> Form | None:
    """The form an Accept header prefers, JSON where it does not say; None: neither of ours."""
    best: tuple[float, Form] | None = None
    for item in accept.split(",") if accept.strip() else ["*/*"]:
        media_type, *parameters = (part.strip().lower() for part in item.split(";"))
        form = _FORMS.get(media_type)
        quality = _quality(parameters)
        if form is not None and quality > 0 and (best is None or quality > best[0]):
            best = (quality, form)
    return None if best is None else best[1]


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def status_of(outcomes: Sequence[Outcome]) -> int:
    """The HTTP status of a request that was read to its end (PS3.18 table 10.5.3-1)."""
    failed = [outcome.status for outcome in outcomes if outcome.status]
    if not outcomes:
        return 400
    if not failed:
        return 200
    if len(failed) < len(outcomes):
        return 202
    return 503 if all(status == OUT_OF_RESOURCES for status in failed) else 409


def dataset_of(outcomes: Sequence[Outcome], form: Form) -> bytes:
    """The Store Instances Response, encoded."""
    stored = [[*_reference(one), _retrieve_url()] for one in outcomes if not one.status]
    failed = [[*_reference(one), _reason(one)] for one in outcomes if one.status and _is_named(one)]
    others = [[_reason(one)] for one in outcomes if one.status and not _is_named(one)]
    dataset = [_retrieve_url()]
    for tag, keyword, items in (
        ("00081198", "FailedSOPSequence", failed),
        ("00081199", "ReferencedSOPSequence", stored),
        ("0008119A", "OtherFailuresSequence", others),
    ):
        if items:
            dataset.append(_Attribute(tag, "SQ", keyword, (), items))
    return _as_json(dataset) if form == JSON else _as_xml(dataset)


def _is_named(outcome: Outcome) -> bool:
    return bool(outcome.sop_class and outcome.sop_instance)


def _reference(outcome: Outcome) -> list[_Attribute]:
    return [
        _Attribute("00081150", "UI", "ReferencedSOPClassUID", [outcome.sop_class]),
        _Attribute("00081155", "UI", "ReferencedSOPInstanceUID", [outcome.sop_instance]),
    ]


def _reason(outcome: Outcome) -> _Attribute:
    return _Attribute("00081197", "US", "FailureReason", [outcome.status or CANNOT_UNDERSTAND])


def _retrieve_url() -> _Attribute:
    # Type 2: nothing is retrieved from here, so there is none to name.
    return _Attribute("00081190", "UR", "RetrieveURL", ())


def _as_json(dataset: Sequence[_Attribute]) -> bytes:
    return json.dumps(_json_item(dataset), separators=(",", ":")).encode()


def _json_item(item: Sequence[_Attribute]) -> dict[str, object]:
    said: dict[str, object] = {}
    for one in item:
        values: list[object] = [_json_item(child) for child in one.items] or [*one.values]
        said[one.tag] = {"vr": one.vr, "Value": values} if values else {"vr": one.vr}
    return said


def _as_xml(dataset: Sequence[_Attribute]) -> bytes:
    root = ElementTree.Element("NativeDicomModel", {"xmlns": _NATIVE, "xml:space": "preserve"})
    _xml_item(root, dataset)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _xml_item(parent: ElementTree.Element, item: Sequence[_Attribute]) -> None:
    for one in sorted(item, key=lambda attribute: attribute.tag):
        names = {"tag": one.tag, "vr": one.vr, "keyword": one.keyword}
        element = ElementTree.SubElement(parent, "DicomAttribute", names)
        for number, value in enumerate(one.values, 1):
            ElementTree.SubElement(element, "Value", {"number": str(number)}).text = str(value)
        for number, child in enumerate(one.items, 1):
            _xml_item(ElementTree.SubElement(element, "Item", {"number": str(number)}), child)
