"""The text of a package, `model.json`, as frozen types: format preread-model/1.

What a model reads, how it computes, what its findings are called, how well it did and what it must not be
used for. Unknown keys are refused. `models/package.schema.json` is generated from here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.applicability import Applicability, Text
from models.calibration import Calibration
from models.explanation.block import Explain
from models.grid_steps import Grid, Tiling
from models.networks.own_specs import CenterNetSpec
from models.networks.registry import CanvasNetworkSpec, NetworkSpec
from models.ood.block import Ood
from models.steps import (
    Argmax,
    FillHoles,
    ImageGate,
    KeepDetections,
    KeepLargest,
    MinComponent,
    PostprocessStep,
    PreprocessStep,
    Strict,
    Threshold,
)
from models.uncertainty.block import Uncertainty

FORMAT = "preread-model/1"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
RelativePath = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*$")]
FileRole = Literal[
    "weights", "golden_in", "golden_out", "card", "picture", "import_notes", "ood", "recipe", "split"
]
MEASURED_OF_STRUCTURES = ("volume_ml", "area_mm2", "area_px")
MeasurementName = Literal["volume_ml", "area_mm2", "area_px", "long_axis_mm", "short_axis_mm", "long_axis_px"]


class PackageFile(Strict):
    """One file of the package; files that are not listed are refused."""

    path: RelativePath
    role: FileRole
    bytes: int = Field(ge=0, le=1 << 31)
    sha256: Sha256


class Code(Strict):
    """A coded concept (PS3.3 section 8)."""

    value: Annotated[str, Field(min_length=1, max_length=16)]
    scheme: Annotated[str, Field(min_length=1, max_length=16)]
    meaning: Annotated[str, Field(min_length=1, max_length=64)]


class Task(Strict):
    """What the network gives: a lesion map, with classes of the whole image or without; or boxes."""

    kind: Literal["segment", "segment_and_classify", "detect"]


class ModelInput(Strict):
    """One series the model reads. `unit` image: each image of the series is read by itself."""

    name: Text
    unit: Literal["series", "image"]
    applicability: Applicability


class Inference(Strict):
    """How the network is run."""

    flip: bool  # mean of the image and its mirror image
    batch: int = Field(ge=1, le=256)


class SegmentFinding(Strict):
    """How a lesion, or one structure, is named and shown; colour in CIELab (L 0 to 100, a and b -128 to 127).

    `modifier`: of the region, such as Anterior. `laterality`: the image's own attribute, or always this side.
    """

    number: int = Field(ge=1, le=255)
    label: Text
    category: Code
    type: Code
    region: Code | None
    colour: tuple[float, float, float]
    heads: tuple[Annotated[int, Field(ge=0, le=255)], ...] = ()  # of the network: the maps that are it
    modifier: Code | None = None
    laterality: Literal["of_image", "left", "right", "both"] = "of_image"


class StructureTotal(Strict):
    """Several structures measured together, by the numbers of their segments."""

    label: Text
    segments: tuple[int, ...] = Field(min_length=2)


class MeasurementFinding(Strict):
    """A quantity given for each lesion or structure, with its unit (UCUM)."""

    name: MeasurementName
    concept: Code
    unit: Code


class ClassFinding(Strict):
    """One class; `negative`: nothing found; `urgent`: a person should look soon."""

    index: int = Field(ge=0)
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    concept: Code
    negative: bool
    urgent: bool


class Findings(Strict):
    """What comes out, in words and codes.

    `kind` lesions: each connected region is a finding, named after the first segment. structures: each
    segment is one named thing that is looked for in every study, and nothing is negative.
    """

    kind: Literal["lesions", "structures"] = "lesions"
    segments: tuple[SegmentFinding, ...] = Field(min_length=1)
    measurements: tuple[MeasurementFinding, ...]
    classes: tuple[ClassFinding, ...]
    negative_statement: Text | None = None  # of lesions
    urgent_ml: float | None = Field(default=None, gt=0)  # total lesion volume from which a study is urgent
    totals: tuple[StructureTotal, ...] = ()

    @model_validator(mode="after")
    def _of_its_kind(self) -> Findings:
        heads = [head for segment in self.segments for head in segment.heads]
        if self.kind == "lesions":
            if self.negative_statement is None:
                raise ValueError("findings of lesions need a negative_statement")
            if heads or self.totals:
                raise ValueError("findings.segments[].heads and findings.totals are for structures")
            return self
        numbers = [segment.number for segment in self.segments]
        if numbers != list(range(1, len(numbers) + 1)):
            raise ValueError("findings.segments of structures must be numbered 1, 2, 3 and so on")
        if not all(segment.heads for segment in self.segments) or len(set(heads)) != len(heads):
            raise ValueError("each structure needs heads of its own in findings.segments[].heads")
        if len({segment.label for segment in self.segments}) != len(numbers):
            raise ValueError("findings.segments: two structures have one label")
        if self.negative_statement is not None or self.urgent_ml is not None or self.classes:
            raise ValueError("structures have no negative_statement, urgent_ml or classes")
        if any(number not in numbers for total in self.totals for number in total.segments):
            raise ValueError("findings.totals names a segment that is not there")
        if any(one.name not in MEASURED_OF_STRUCTURES for one in self.measurements):
            raise ValueError(f"structures are measured by {', '.join(MEASURED_OF_STRUCTURES)}")
        return self


class OperatingPoint(Strict):
    """A named setting of the thresholds and how it was chosen."""

    name: Text
    default: bool
    thresholds: dict[str, float]
    chosen_on: Text


class Evaluation(Strict):
    """One figure on cases the training did not see, with its 95 % interval."""

    dataset: Text
    split_sha256: Sha256
    subset: Literal["scored", "frozen", "out-of-fold", "naive"]  # see models.evaluation.evaluate
    metric: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    value: float
    ci95: tuple[float, float]
    n: int = Field(ge=1)
    unit: Literal["patients", "images"]


class TrainingData(Strict):
    """A data set and its licence."""

    name: Text
    licence: Text
    n: int = Field(ge=0)
    unit: Literal["patients", "images"]
    citation: Annotated[str, Field(max_length=1000)]


class Origin(Strict):
    """Where an imported package comes from."""

    format: Literal["nnunet-v2", "monai-bundle", "onnx"]
    name: Text  # of the folder, zip or file
    sha256: Sha256  # of the files that were read, see models.adapters.draft
    trained_on: tuple[Text, ...]  # as the source says it; often nothing


class Training(Strict):
    """How the weights were made."""

    recipe: Text
    recipe_sha256: Sha256
    seed: int
    steps: int
    seconds: float
    data: tuple[TrainingData, ...] = Field(min_length=1)
    simulated_fraction: float = Field(ge=0, le=1)  # share of training samples that were generated
    pretrained: tuple[Text, ...]


class Memory(Strict):
    """Bytes needed: base + per_canvas_pixel x batch x canvas + per_voxel x voxels of the source."""

    base: int = Field(ge=0)
    per_canvas_pixel: int = Field(ge=0)
    per_voxel: int = Field(ge=0)


class Runtime(Strict):
    """What is needed to run it, and what it took where it was measured."""

    torch: Text
    devices: tuple[Literal["cpu", "cuda"], ...]
    memory: Memory
    bfloat16: tuple[Literal["cpu", "cuda"], ...] = ()  # where it may be used: if faster, and golden passes
    parameters: int = Field(ge=1)


class Golden(Strict):
    """A generated input and what the model must say about it before it may run."""

    probability_tolerance: float = Field(gt=0, le=0.2)
    class_tolerance: float = Field(gt=0, le=0.2)
    lesions: int = Field(ge=0)
    class_name: str | None
    structure_voxels: tuple[Annotated[int, Field(ge=0)], ...] = ()  # of each structure


class Card(Strict):
    """What a person must know; CARD.md says it at length."""

    intended_use: Text
    not_for: tuple[Text, ...]
    limits: tuple[Text, ...]
    line: Text  # one sentence for reports: trained on what, not validated for what
    licences: tuple[Text, ...]
    commercial_use: bool
    regulatory: Literal["research"]


class Manifest(Strict):
    """model.json."""

    format: Literal["preread-model/1"]
    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{2,63}$")]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    title: Text
    summary: Text
    released: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    files: tuple[PackageFile, ...]
    task: Task
    network: NetworkSpec
    inputs: tuple[ModelInput, ...] = Field(min_length=1, max_length=1)
    preprocess: tuple[PreprocessStep, ...]  # empty where there is a grid
    grid: Grid | None = None
    inference: Inference
    postprocess: tuple[PostprocessStep, ...] = Field(min_length=1)
    findings: Findings
    operating_points: tuple[OperatingPoint, ...] = Field(min_length=1)
    calibration: Calibration | None = None  # None: class scores are the network's own
    ood: Ood | None = None  # None: nobody looks how like the training cases an input is
    uncertainty: Uncertainty | None = None  # None: nobody knows how sure an outline is
    evaluation: tuple[Evaluation, ...]
    training: Training | None  # None: imported, see origin
    origin: Origin | None = None
    runtime: Runtime
    golden: Golden
    explain: Explain | None = None  # None: never measured, and nothing is shown
    card: Card

    @model_validator(mode="after")
    def _parts_agree(self) -> Manifest:
        classes = [item.name for item in self.findings.classes]
        # A detector's classes are those of boxes, see _check_detector.
        of_image = 0 if isinstance(self.network, CenterNetSpec) else self.network.classes
        if len(classes) != of_image:
            raise ValueError(f"findings name {len(classes)} classes, the network has {of_image}")
        if [item.index for item in self.findings.classes] != list(range(len(classes))):
            raise ValueError("findings.classes must be listed by index, from 0")
        if (self.task.kind == "segment_and_classify") != bool(classes):
            raise ValueError("task.kind and findings.classes disagree about classes")
        self._check_grid()
        self._check_steps()
        if self.explain is not None and self.explain.method != "none" and not classes:
            raise ValueError("explain is for classes of the whole image, and there are none")
        for step in self.postprocess:
            if isinstance(step, ImageGate) and step.class_name not in classes:
                raise ValueError(
                    f"image_gate names the class {step.class_name!r}, which the model does not have"
                )
        if sum(item.default for item in self.operating_points) != 1:
            raise ValueError("exactly one operating point must be the default")
        return self

    @model_validator(mode="after")
    def _files_agree(self) -> Manifest:
        paths = [item.path for item in self.files]
        if len(set(paths)) != len(paths):
            raise ValueError("files lists a path twice")
        for role in ("weights", "golden_in", "golden_out", "card"):
            if sum(item.role == role for item in self.files) != 1:
                raise ValueError(f"files must list exactly one file with the role {role}")
        for role in ("recipe", "split"):
            if sum(item.role == role for item in self.files) > 1:
                raise ValueError(f"files must list at most one file with the role {role}")
        return self

    @model_validator(mode="after")
    def _optional_blocks_agree(self) -> Manifest:
        classes = len(self.findings.classes)
        if self.calibration is not None and not (classes and len(self.calibration.curves) in (0, classes)):
            raise ValueError("calibration needs classes, and as many curves as there are")
        if self.uncertainty is not None and not (self.inference.flip and self.grid is None):
            raise ValueError("uncertainty from flips needs inference.flip and a network on a canvas")
        named = [] if self.ood is None else [self.ood.file]
        if [item.path for item in self.files if item.role == "ood"] != named:
            raise ValueError("ood.file must be the one file with the role ood; without a block there is none")
        return self

    def _check_grid(self) -> None:
        if isinstance(self.network, CanvasNetworkSpec):
            if self.grid is not None or not self.preprocess:
                raise ValueError(f"{self.network.registry} needs preprocess and no grid")
        elif self.grid is None or self.preprocess:
            raise ValueError(f"{self.network.registry} needs a grid and no preprocess")
        elif self.network.in_channels != 1:
            raise ValueError("a network on a grid reads one channel")
        elif len(self.grid.tiling.window) != self.network.dimensions:
            raise ValueError(f"grid.tiling.window must have {self.network.dimensions} sizes")
        elif isinstance(self.network, CenterNetSpec):
            self._check_detector(self.grid.tiling, self.network)
        else:
            self._check_heads(self.grid.tiling.lesion_heads, self.network.heads)
        if (self.training is None) == (self.origin is None):
            raise ValueError("exactly one of training and origin must be given")

    def _check_detector(self, tiling: Tiling, network: CenterNetSpec) -> None:
        """A detector finds one kind of lesion in volumes, and says where, not which voxels."""
        if network.dimensions != 3 or network.classes != 1 or self.findings.kind != "lesions":
            raise ValueError(f"{network.registry} in a package finds lesions of one class in 3 dimensions")
        if tiling.lesion_heads or tiling.mirror or tiling.skip_background or tiling.activation != "sigmoid":
            raise ValueError(
                "grid.tiling of a detector has the activation sigmoid, and neither lesion_heads nor mirror "
                "nor skip_background"
            )
        if any(size % step for size, step in zip(tiling.window, network.divisors, strict=True)):
            raise ValueError(f"grid.tiling.window must have multiples of {network.divisors}")

    def _check_heads(self, lesion_heads: tuple[int, ...], heads: int) -> None:
        if (self.findings.kind == "lesions") != bool(lesion_heads):
            raise ValueError(
                "grid.tiling.lesion_heads names the maps of lesions, findings.segments[].heads of structures"
            )
        named = [*lesion_heads, *(head for segment in self.findings.segments for head in segment.heads)]
        if max(named) >= heads:
            place = "grid.tiling.lesion_heads" if lesion_heads else "findings.segments[].heads"
            raise ValueError(f"{place}: the network has {heads} heads")

    def _check_steps(self) -> None:
        """Post-processing fits the kind of findings, and the golden case has what is compared."""
        self._check_detections()
        if self.findings.kind == "lesions":
            if any(isinstance(step, Argmax | KeepLargest) or _segments_of(step) for step in self.postprocess):
                raise ValueError("postprocess: argmax, keep_largest and segments are for structures")
            if self.golden.structure_voxels:
                raise ValueError("golden.structure_voxels is for structures")
            return
        if self.grid is None:
            raise ValueError("findings of structures need a network on a grid")
        first, *others = self.postprocess
        if not isinstance(first, Argmax | Threshold):
            raise ValueError("postprocess of structures must begin with argmax or threshold")
        if isinstance(first, Argmax) != (self.grid.tiling.activation == "softmax"):
            raise ValueError(
                "postprocess of structures begins with argmax for softmax, else with a threshold"
            )
        if isinstance(first, Threshold) and first.of_peak is not None:
            raise ValueError("postprocess: of_peak is for lesions")
        if not all(isinstance(step, FillHoles | MinComponent | KeepLargest) for step in others):
            raise ValueError("postprocess of structures may have fill_holes, min_component and keep_largest")
        count = len(self.findings.segments)
        if any(number > count for step in others for number in _segments_of(step)):
            raise ValueError(f"postprocess: there are {count} segments")
        if len(self.golden.structure_voxels) != count:
            raise ValueError("golden.structure_voxels needs one number for each structure")

    def _check_detections(self) -> None:
        """Detectors, and they alone, detect, and their boxes are kept by one step."""
        detects = isinstance(self.network, CenterNetSpec)
        if (self.task.kind == "detect") != detects:
            raise ValueError("task.kind detect is for detectors, and for them alone")
        keeps = [isinstance(step, KeepDetections) for step in self.postprocess]
        if detects != any(keeps) or (detects and len(keeps) > 1):
            raise ValueError("postprocess of a detector is keep_detections alone; no other network has it")

    def file(self, role: FileRole) -> PackageFile:
        """The file with a role that occurs once."""
        return next(item for item in self.files if item.role == role)

    def has(self, role: FileRole) -> bool:
        """Whether there is a file with this role."""
        return any(item.role == role for item in self.files)


def _segments_of(step: PostprocessStep) -> tuple[int, ...]:
    return step.segments if isinstance(step, FillHoles | MinComponent | KeepLargest) else ()
