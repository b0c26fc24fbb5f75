"""brain-flair-lesion: which series it reads, how its findings are coded, what it is not for."""

from __future__ import annotations

from models.applicability import AnyOf, Applicability, Condition, Preference, Test
from models.manifest import (
    Card,
    Code,
    Findings,
    Inference,
    MeasurementFinding,
    Memory,
    ModelInput,
    OperatingPoint,
    SegmentFinding,
    Task,
    TrainingData,
)
from models.steps import FillHoles, MinComponent, MinPeak, Threshold
from models.training.declared.declaration import Declaration

FLAIR_WORDS = r"flair|dark[ _-]?fluid|tirm"
BRAIN_WORDS = r"brain|head|cerebr|neuro|skull|hirn|kopf|schädel|schaedel|cranial|cranium|encephal"
THRESHOLD = 0.5
MINIMUM_ML = 0.15

APPLICABILITY = Applicability(
    all=(
        Condition(
            attribute="Modality",
            op="equals",
            value="MR",
            code="wrong_modality",
            sentence="The model reads MR; this series is of another modality.",
        ),
    ),
    any=(
        AnyOf(
            options=(
                (Test(attribute="SeriesDescription", op="matches", value=FLAIR_WORDS),),
                (Test(attribute="ProtocolName", op="matches", value=FLAIR_WORDS),),
                # A description that says nothing: inversion recovery with the timing that nulls fluid, and T2
                # weight.
                (
                    Test(attribute="InversionTime", op="between", value=(1500.0, 3500.0)),
                    Test(attribute="EchoTime", op="between", value=(70.0, 400.0)),
                ),
            ),
            code="not_flair",
            sentence="Neither the description nor the inversion and echo times say that this is a FLAIR "
            "series.",
        ),
        AnyOf(
            options=(
                (Test(attribute="BodyPartExamined", op="matches", value=BRAIN_WORDS),),
                (Test(attribute="BodyPartExamined", op="exists", value=False),),
            ),
            code="wrong_body_part",
            sentence="The model reads the head; this series shows another part of the body.",
        ),
    ),
    none=(
        Condition(
            attribute="SeriesDescription",
            op="matches",
            value=r"(^|[^a-z0-9])t1([^a-z0-9]|$|w|post|pre|gd|\+)|spine|\bstir\b",
            code="not_flair",
            sentence="The description names a T1-weighted, STIR or spine series; the model reads T2 FLAIR of "
            "the brain.",
        ),
        Condition(
            attribute="ImageType",
            op="in",
            value=("LOCALIZER", "MIP", "MIN IP", "MINIP", "MAXIMUM", "PROJECTION IMAGE", "MOSAIC"),
            code="derived_projection",
            sentence="These images are localizers, projections or mosaics, not slices of the head.",
        ),
        Condition(
            attribute="SeriesDescription",
            op="matches",
            value=r"\bmip\b|localizer|localiser|scout|survey|subtract|\bsub\b|perfusion|\bdti\b|trace",
            code="derived_projection",
            sentence="The description names a localizer, projection, subtraction or map, not a FLAIR series.",
        ),
    ),
    min_slices=5,
    max_slices=400,
    pixel_spacing_mm=(0.2, 2.0),
    slice_spacing_mm=(0.5, 10.0),
    max_angle_from_axial_degrees=35.0,
    prefer=(
        # Registered copies are taken when they are all there is; originals are better.
        Preference(attribute="ImageType", op="in", value=("ORIGINAL",), weight=2.0, unknown="refuse"),
        Preference(attribute="SeriesDescription", op="matches", value=r"\bax|tra|axial", weight=1.0),
        Preference(attribute="SeriesDescription", op="matches", value=r"reg|mpr|reformat", weight=-1.0),
        # Trained before contrast agent only.
        Preference(
            attribute="SeriesDescription", op="matches", value=r"post|\bgd\b|\+c|contrast|\bkm\b", weight=-1.0
        ),
    ),
)

DECLARATION = Declaration(
    title="Brain FLAIR lesion",
    summary="Outlines hyperintense abnormality on axial T2 FLAIR of the brain; trained on lower-grade "
    "glioma.",
    task=Task(kind="segment"),
    model_input=ModelInput(name="flair", unit="series", applicability=APPLICABILITY),
    inference=Inference(flip=True, batch=8),
    postprocess=(
        Threshold(step="threshold", probability=THRESHOLD),
        FillHoles(step="fill_holes"),
        MinPeak(step="min_peak", probability=0.7),
        MinComponent(step="min_component", minimum_ml=MINIMUM_ML),
    ),
    findings=Findings(
        segments=(
            SegmentFinding(
                number=1,
                label="FLAIR hyperintense lesion",
                category=Code(value="49755003", scheme="SCT", meaning="Morphologically Altered Structure"),
                type=Code(value="52988006", scheme="SCT", meaning="Lesion"),
                region=Code(value="12738006", scheme="SCT", meaning="Brain"),
                colour=(70.0, 45.0, 55.0),
            ),
        ),
        measurements=(
            MeasurementFinding(
                name="volume_ml",
                concept=Code(value="118565006", scheme="SCT", meaning="Volume"),
                unit=Code(value="mL", scheme="UCUM", meaning="milliliter"),
            ),
            MeasurementFinding(
                name="long_axis_mm",
                concept=Code(value="103339001", scheme="SCT", meaning="Long Axis"),
                unit=Code(value="mm", scheme="UCUM", meaning="millimeter"),
            ),
            MeasurementFinding(
                name="short_axis_mm",
                concept=Code(value="103340004", scheme="SCT", meaning="Short Axis"),
                unit=Code(value="mm", scheme="UCUM", meaning="millimeter"),
            ),
        ),
        classes=(),
        negative_statement="No FLAIR hyperintense lesion was outlined by the model.",
        urgent_ml=20.0,
    ),
    operating_points=(
        OperatingPoint(
            name="standard",
            default=True,
            thresholds={"probability": THRESHOLD, "peak": 0.7, "minimum_ml": MINIMUM_ML},
            chosen_on="fixed before training, not tuned on any case",
        ),
    ),
    memory=Memory(base=200 << 20, per_canvas_pixel=1200, per_voxel=40),
    real_data=TrainingData(
        name="LGG FLAIR (TCGA-LGG, masks of Buda and others)",
        licence="CC BY-NC-SA 4.0 as usually stated, not confirmed; non-commercial",
        n=0,
        unit="patients",
        citation="Buda, Saha, Mazurowski, Computers in Biology and Medicine 2019; Mazurowski et al., Journal "
        "of "
        "Neuro-Oncology 2017; images: The Cancer Imaging Archive, TCGA-LGG",
    ),
    card=Card(
        intended_use="Research: a second look at axial T2 FLAIR of adult brains for hyperintense abnormality "
        "as in "
        "lower-grade glioma. Not a medical device.",
        not_for=(
            "diagnosis or exclusion of disease",
            "multiple sclerosis, small-vessel disease, stroke, metastases: not in the training data",
            "children, post-operative follow-up as a measurement of change",
            "coronal or sagittal series, 3D FLAIR reformats thinner than 1 mm",
        ),
        limits=(
            "All patients of the training data have a tumour: the rate of false alarms in healthy people is "
            "unknown.",
            "Training images were 8-bit copies with unknown spacing; 0.94 mm and 5 mm were assumed. "
            "Millilitres of "
            "real series use the series' own spacing, but sizes were learned under that assumption.",
            "Masks are one reader's. White matter disease of age may be drawn.",
            "Real scanner series were looked at (two studies), not measured: they have no truth.",
        ),
        line="Trained on lower-grade glioma (TCGA-LGG, 8-bit copies, non-commercial licence); not validated "
        "on "
        "healthy brains, other diseases or your scanner.",
        licences=("data CC BY-NC-SA 4.0 (as usually stated)", "encoder weights Apache-2.0"),
        commercial_use=False,
        regulatory="research",
    ),
)
