"""breast-us-lesion: which images it reads, how its findings are coded, what it is not for."""

from __future__ import annotations

from models.applicability import AnyOf, Applicability, Condition, Preference, Test
from models.manifest import (
    Card,
    ClassFinding,
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
from models.steps import FillHoles, ImageGate, MinComponent, Threshold
from models.training.declared.declaration import Declaration

BREAST_WORDS = r"breast|mamma|\bmam(m|o)?\b|brust|\bsein\b"
THRESHOLD = 0.5
MINIMUM_SHARE = 0.001
# In steps of 0.05 the highest with which at most 12 % of normal images are drawn on, over all five folds.
NORMAL_FROM = 0.25

APPLICABILITY = Applicability(
    all=(
        Condition(
            attribute="Modality",
            op="equals",
            value="US",
            code="wrong_modality",
            sentence="The model reads ultrasound; this series is of another modality.",
        ),
    ),
    any=(
        AnyOf(
            options=(
                (Test(attribute="BodyPartExamined", op="matches", value=BREAST_WORDS),),
                (Test(attribute="StudyDescription", op="matches", value=BREAST_WORDS),),
                (Test(attribute="SeriesDescription", op="matches", value=BREAST_WORDS),),
                (Test(attribute="ProtocolName", op="matches", value=BREAST_WORDS),),
            ),
            code="wrong_body_part",
            sentence="Neither the body part nor a description says that this is the breast.",
        ),
    ),
    none=(
        Condition(
            attribute="SeriesDescription",
            op="matches",
            value=r"doppler|elasto|axilla|lymph",
            code="wrong_technique",
            sentence="The description names Doppler, elastography or the axilla; the model reads grey images "
            "of the breast.",
        ),
    ),
    min_slices=1,
    max_slices=500,
    prefer=(Preference(attribute="BodyPartExamined", op="matches", value=BREAST_WORDS, weight=1.0),),
)

DECLARATION = Declaration(
    title="Breast ultrasound lesion",
    summary="Outlines a lesion on a grey breast ultrasound image and scores it benign, malignant or normal.",
    task=Task(kind="segment_and_classify"),
    model_input=ModelInput(name="image", unit="image", applicability=APPLICABILITY),
    inference=Inference(flip=True, batch=8),
    postprocess=(
        Threshold(step="threshold", probability=THRESHOLD),
        FillHoles(step="fill_holes"),
        MinComponent(step="min_component", minimum_share=MINIMUM_SHARE),
        ImageGate(step="image_gate", class_name="normal", probability=NORMAL_FROM),
    ),
    findings=Findings(
        segments=(
            SegmentFinding(
                number=1,
                label="Breast lesion",
                category=Code(value="49755003", scheme="SCT", meaning="Morphologically Altered Structure"),
                type=Code(value="52988006", scheme="SCT", meaning="Lesion"),
                region=Code(value="76752008", scheme="SCT", meaning="Breast"),
                colour=(75.0, -35.0, 55.0),
            ),
        ),
        measurements=(
            MeasurementFinding(
                name="area_mm2",
                concept=Code(value="42798000", scheme="SCT", meaning="Area"),
                unit=Code(value="mm2", scheme="UCUM", meaning="square millimeter"),
            ),
            MeasurementFinding(
                name="long_axis_mm",
                concept=Code(value="103339001", scheme="SCT", meaning="Long Axis"),
                unit=Code(value="mm", scheme="UCUM", meaning="millimeter"),
            ),
            MeasurementFinding(
                name="area_px",
                concept=Code(value="42798000", scheme="SCT", meaning="Area"),
                unit=Code(value="{pixels}", scheme="UCUM", meaning="pixels"),
            ),
        ),
        classes=(
            ClassFinding(
                index=0,
                name="benign",
                concept=Code(value="30807003", scheme="SCT", meaning="Benign"),
                negative=False,
                urgent=False,
            ),
            ClassFinding(
                index=1,
                name="malignant",
                concept=Code(value="21594007", scheme="SCT", meaning="Malignant"),
                negative=False,
                urgent=True,
            ),
            ClassFinding(
                index=2,
                name="normal",
                concept=Code(value="17621005", scheme="SCT", meaning="Normal"),
                negative=True,
                urgent=False,
            ),
        ),
        negative_statement="No breast lesion was outlined by the model.",
    ),
    operating_points=(
        OperatingPoint(
            name="standard",
            default=True,
            thresholds={
                "probability": THRESHOLD,
                "minimum_share": MINIMUM_SHARE,
                "normal_from": NORMAL_FROM,
            },
            chosen_on="outline and size fixed before training; an image is normal from a score of 0.25, the "
            "highest step of 0.05 with which at most 12 % of normal images are drawn on over all five folds, "
            "each judged by the network that did not see it",
        ),
    ),
    memory=Memory(base=200 << 20, per_canvas_pixel=1200, per_voxel=60),
    real_data=TrainingData(
        name="BUSI breast ultrasound",
        licence="CC BY 4.0 of the article; the data set's own licence was not confirmed",
        n=0,
        unit="images",
        citation="Al-Dhabyani, Gomaa, Khaled, Fahmy, Dataset of breast ultrasound images, Data in Brief 28 "
        "(2020) "
        "104863",
    ),
    card=Card(
        intended_use="Research: a second look at single grey ultrasound images of the breast that show at "
        "most a few "
        "lesions. Not a medical device.",
        not_for=(
            "diagnosis, exclusion of cancer, or a decision about biopsy",
            "Doppler, elastography, axilla, implants, men, video",
            "screening: the classes of the training data do not have the prevalence of any population",
        ),
        limits=(
            "Images of one hospital, two ultrasound systems, reduced to 320 pixels; another system may look "
            "different.",
            "Published criticism of the data: many near-duplicates, contradictory labels, images of the "
            "axilla, "
            "calipers and text. Folds here keep near-duplicates together; groups with two classes were left "
            "out.",
            "Some images of the data show the axilla, as text in them says. The model is not for the axilla: "
            "six of the seven such images of the scored fold are missed; figures are given with and without "
            "them.",
            "Lesions as bright as their surroundings are often missed, and faint ones may be taken for "
            "normal tissue.",
            "An image with a lesion may be called normal: over the five folds 5 of 172 malignant ones and "
            "19 of 361 benign ones were.",
            "No pixel spacing in the data: sizes in mm rest on the received image alone.",
            "The same patient may still stand on both sides of the split: the source names no patients.",
        ),
        line="Trained on BUSI (one hospital, 8-bit, known duplicates and label faults); not validated on "
        "your "
        "ultrasound system or for any clinical decision.",
        licences=("article CC BY 4.0, data licence not confirmed", "encoder weights Apache-2.0"),
        commercial_use=False,
        regulatory="research",
    ),
)
