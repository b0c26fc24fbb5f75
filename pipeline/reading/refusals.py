"""The coded reasons of *not analysed*: each with the sentence a person reads and what can be done about it.

A refusal is a value, not an exception: it is an expected outcome, stored on the job and shown. Packages may
declare codes of their own in their applicability rules; those arrive as plain `Refusal` values too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True)
class Refusal:
    """Why something was not analysed.

    Parameters
    ----------
    code : upper case with hyphens, stable: sites filter and count by it
    sentence : what was found, with the UIDs and numbers it concerns; never who the patient is
    remedy : what a person can do about it, one sentence
    """

    code: str
    sentence: str
    remedy: str


@dataclass(frozen=True)
class Reason:
    """What a code means, and the sentence and remedy it fills in; parts of the sentence in braces."""

    meaning: str
    sentence: str
    remedy: str


_SEND_AGAIN = (
    "Send the images again, or look at the series in the archive; a late image starts a new analysis."
)
_AT_THE_SOURCE = "Correct the attribute at the modality or the archive and send the series again."

REASONS: Final[Mapping[str, Reason]] = MappingProxyType(
    {
        "NO-MODEL": Reason(
            "no installed model wants any series of the study",
            "No installed model wants any series of this study: {why}",
            "Nothing to do if no model is meant for such studies; else see why each series was refused.",
        ),
        "NO-PACKAGE": Reason(
            "no model package is installed and verified",
            "No model package runs on this node",
            "Run `preread models list` and `preread doctor`; enable a package in packages.enabled.",
        ),
        "NOT-AN-IMAGE": Reason(
            "the objects are reports, segmentations, presentation states or other non-images",
            "{what} holds no image a model could read, only {kinds}",
            "Nothing to do; such objects are stored and shown, never read by a model.",
        ),
        "OWN-RESULT": Reason(
            "the objects are results of preread that came back",
            "{what} holds only results made by preread",
            "Nothing to do; results that come back are kept as proof of delivery.",
        ),
        "ORIENTATION": Reason(
            "the images lie at another angle than the model reads",
            "The images lie {degrees:.0f} degrees from {axis}, the model reads up to {most:g} degrees",
            "Nothing to do if another series of the study fits; else send a reconstruction in that plane.",
        ),
        "PIXEL-SPACING": Reason(
            "the pixel spacing is outside the range of the model",
            "The pixel spacing is {found}, the model reads {least:g} to {most:g} mm",
            "Send a reconstruction with another matrix or field of view.",
        ),
        "SLICE-SPACING": Reason(
            "the slice distance is outside the range of the model",
            "The slice distance is {found}, the model reads {least:g} to {most:g} mm",
            "Send a reconstruction with another slice distance.",
        ),
        "FIELD-OF-VIEW": Reason(
            "the field of view is outside the range of the model, as of a whole head for a model of crops",
            "The field of view is {found}, the model reads {least:g} to {most:g} mm along each side",
            "Send what the model reads (its card says what), such as a crop around the structure.",
        ),
        "STACK-EXTENT": Reason(
            "the slices together cover more or less than the model reads",
            "The slices cover {found}, the model reads {least:g} to {most:g} mm",
            "Send what the model reads (its card says what), such as a crop around the structure.",
        ),
        "NOT-PREFERRED": Reason(
            "another series of the study suits the model better",
            "Fits, but series {better} suits the model better",
            "Nothing to do; one series is read per model.",
        ),
        "MODEL-REFUSED": Reason(
            "the model cannot read these images",
            "The model {model} cannot read the images: {why}",
            "Look at the images; the limits of the model are on its card (`preread models show`).",
        ),
        "UNLIKE-TRAINING": Reason(
            "the images are far from everything the model was trained on",
            "To the model {model} the images are {distance:.1f} times as far from its training cases as a "
            "typical one, the limit is {limit:.1f}",
            "Look at the images: another body part, technique or fault of the device? What the model reads "
            "stands on its card (`preread models show`).",
        ),
        "TOO-FEW-SLICES": Reason(
            "fewer slices than the model needs",
            "{what} has {slices} slices, the model needs at least {least}",
            _SEND_AGAIN,
        ),
        "TOO-MANY-SLICES": Reason(
            "more slices than the model may read",
            "{what} has {slices} slices, the model reads at most {most}",
            "Send a reconstruction with fewer slices.",
        ),
        "MISSING-SLICE": Reason(
            "a gap between neighbouring slices where the others are even",
            "The slices {before} and {after} are {gap_mm:.2f} mm apart, the others {usual_mm:.2f} mm: "
            "{missing} slice(s) missing in {gaps} gap(s)",
            "Send the missing images; the study is then analysed again by itself.",
        ),
        "UNEVEN-SPACING": Reason(
            "the distance between slices changes along the stack",
            "The slice distance varies from {least_mm:.2f} to {most_mm:.2f} mm, "
            "first between {before} and {after}",
            "Send an evenly spaced reconstruction of the series.",
        ),
        "UNEVEN-POSITIONS": Reason(
            "the slices do not lie on a straight line",
            "The slice {slice} lies {off_mm:.2f} mm beside the line through the other slices",
            "Send a reconstruction with parallel, aligned slices.",
        ),
        "DUPLICATE-SLICES": Reason(
            "several images at one position that nothing in their headers tells apart",
            "The images {first} and {second} lie at one position and nothing in their headers "
            "tells them apart",
            "Send the acquisitions as separate series.",
        ),
        "GANTRY-TILT": Reason(
            "the stack is sheared by the gantry and the model does not allow it",
            "The slices are shifted against each other by a gantry tilt of {degrees:.1f} degrees, "
            "which the model does not allow",
            "Send a reconstruction that corrects the tilt.",
        ),
        "MIXED-ORIENTATION": Reason(
            "images of several orientations, none of them clearly the series",
            "The series mixes {groups} orientations ({counts} images), none of them clearly the main one",
            "Send each orientation as a series of its own.",
        ),
        "MIXED-SIZE": Reason(
            "images of several sizes, none of them clearly the series",
            "The series mixes {groups} image sizes ({counts} images), none of them clearly the main one",
            "Send images of one size as a series of their own.",
        ),
        "MIXED-SPACING": Reason(
            "pixel spacing or slice thickness differs between the slices",
            "{attribute} differs between the slices: {least:g} and {most:g} mm",
            "Send images of one geometry as a series of their own.",
        ),
        "MIXED-PATIENTS": Reason(
            "the images of one series name different patients",
            "The images {first} and {second} of one series name different patients",
            "Correct the patient in the archive and send the series again.",
        ),
        "NO-POSITION": Reason(
            "no position or orientation in space",
            "{count} of {of} images carry no position and orientation (first: {first})",
            _AT_THE_SOURCE,
        ),
        "NO-SPACING": Reason(
            "no usable pixel spacing or slice distance",
            "{attribute} is absent or not a positive number (first: {first})",
            _AT_THE_SOURCE,
        ),
        "NO-PIXELS": Reason(
            "the image has no pixel data, or no size",
            "The image {sop} has no {what}",
            _SEND_AGAIN,
        ),
        "PIXELS-UNREADABLE": Reason(
            "the pixel data could not be decoded",
            "The pixel data of image {sop} could not be decoded: {why}",
            _SEND_AGAIN,
        ),
        "PIXELS-TOO-LARGE": Reason(
            "the pixels would take more memory than the limit",
            "The pixels of {what} would take {mib:.0f} MiB, the limit is {limit_mib:.0f} MiB",
            "Raise worker.memory_gib if the images are meant to be so large.",
        ),
        "TRANSFER-SYNTAX": Reason(
            "a transfer syntax that cannot be decoded here",
            "The image {sop} is encoded as {name}, which cannot be decoded here",
            "Send the images uncompressed or as JPEG, JPEG-LS, JPEG 2000 or RLE.",
        ),
        "PHOTOMETRIC": Reason(
            "a photometric interpretation or pixel format that cannot be read",
            "The image {sop} has pixels of the form {form}, which cannot be read",
            "Send the images as MONOCHROME2 or RGB.",
        ),
        "MULTI-FRAME": Reason(
            "a cine loop where the model reads still images",
            "{what} holds {frames} frames; the model reads single images",
            "Send the still images; the analysis of loops is not offered by this model.",
        ),
        "TOO-MANY-IMAGES": Reason(
            "more images in the study than are read in one job",
            "The study holds {images} images for this model, at most {most} are read in one job",
            "Send the images of one examination per study.",
        ),
        "MISSING-UID": Reason(
            "a study, series or instance UID is absent or empty",
            "{attribute} is absent or empty",
            _AT_THE_SOURCE,
        ),
        "UID-INVALID": Reason(
            "a UID that is not one",
            "{attribute} is not a valid UID ({length} characters)",
            _AT_THE_SOURCE,
        ),
        "SAME-UID-TWICE": Reason(
            "two images of one series carry the same SOP Instance UID",
            "The SOP Instance UID {sop} appears twice in the series",
            _AT_THE_SOURCE,
        ),
        "HEADER-UNREADABLE": Reason(
            "the header could not be parsed",
            "The header of image {sop} could not be read: {why}",
            _SEND_AGAIN,
        ),
        "TOO-LARGE": Reason(
            "the dataset inflates beyond the limit",
            "The dataset of image {sop} inflates to more than {limit_mib:.0f} MiB",
            "Send the image without deflate compression.",
        ),
        "RESULT-REFUSED": Reason(
            "the findings cannot be expressed as valid result objects for this source",
            "No valid result object can be written for this source: {why}",
            _AT_THE_SOURCE,
        ),
    }
)


def refuse(code: str, **parts: object) -> Refusal:
    """The refusal of `code`, its sentence filled with `parts`.

    Raises
    ------
    KeyError
        An unknown code or a missing part: a mistake of ours, not of the images.
    """
    reason = REASONS[code]
    return Refusal(code, reason.sentence.format(**parts) + ".", reason.remedy)


def meanings() -> Mapping[str, str]:
    """What each code means, for documentation and pages."""
    return {code: reason.meaning for code, reason in REASONS.items()}
