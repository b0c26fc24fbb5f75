"""`preread models predict`: what one package says of files, without a node."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from preread.commands.options import (
    Config,
    Json,
    fail,
    let_libraries_be_quiet,
    print_json,
    print_table,
    settings_and_logs,
)
from preread.commands.package_names import PackageName, package_named

if TYPE_CHECKING:
    from config.settings import Settings
    from models.predictor import Predictor
    from pipeline.assignment import StudyImages
    from pipeline.study_files import StudyFiles

VOLUME_BYTES_MAX = 8 << 30
MEDIA = (".nii", ".nii.gz", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def predict(
    name: PackageName,
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT…", help="DICOM files and folders, NIfTI files, PNG or JPEG pictures."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for what comes out.")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Read files with one package: labels, numbers and a picture of each NIfTI file or picture; of DICOM
    studies the SEG, report and picture that the node would send, with its reasons for each series.

    The package's golden case must pass first. Nothing is sent anywhere. Ends with 1 when an input was not
    analysed.
    """
    from models.predictor import Predictor

    settings = settings_and_logs(config)
    let_libraries_be_quiet()
    missing = [str(path) for path in inputs if not path.exists()]
    if missing:
        raise fail(f"there is no {', '.join(missing)}.")
    predictor = Predictor(package_named(name, config), device=settings.worker.device)
    golden = predictor.verify_golden()
    if not golden.passed:
        raise fail(f"{predictor.package.manifest.id} fails its golden case here: {golden.message}.")
    media = [path for path in inputs if path.is_file() and path.name.lower().endswith(MEDIA)]
    rows = [_of_file(predictor, path, out) for path in media]
    others = [path for path in inputs if path not in media]
    if others:
        rows += _of_dicom(predictor, others, out, settings)
    if as_json:
        print_json(rows)
    else:
        print_table(
            ("input", "outcome", "files"),
            [(row["input"], row["outcome"], ", ".join(row["files"])) for row in rows],
            empty="Nothing was found to read. Name DICOM, NIfTI or picture files.",
        )
    outcomes = {row["analysed"] for row in rows}
    if True not in outcomes or False in outcomes:
        raise typer.Exit(1)


def _row(
    source: str, outcome: str, files: list[str], *, analysed: bool | None, **more: Any
) -> dict[str, Any]:
    """`analysed`: None where there was nothing to analyse."""
    return {"input": source, "analysed": analysed, "outcome": outcome, "files": files, **more}


def _of_file(predictor: "Predictor", path: Path, out: Path) -> dict[str, Any]:
    from models.answer_files import write_answer
    from models.memory import TooLarge
    from models.preprocess import PreprocessError
    from models.training.readers import ReadFault, read_volume, stem

    try:
        volume = read_volume(path)
        prediction = predictor.predict(volume)
    except (ReadFault, PreprocessError, TooLarge) as error:
        return _row(str(path), f"not analysed: {error}", [], analysed=False)
    name = stem(path.name)
    answer = write_answer(prediction, predictor.package.manifest, volume, out, name)
    found = [f"{one['label']} {_size(one)}" for one in answer["findings"] if one["voxels"]]
    words = [*([answer["class"]] if answer["class"] else []), *found] or ["nothing outlined"]
    files = sorted(
        one.name for one in out.glob(f"{name}.*") if one.suffix in (".json", ".jpg", ".gz", ".png")
    )
    return _row(str(path), "; ".join(words), files, analysed=True, answer=answer)


def _size(finding: dict[str, Any]) -> str:
    volume = finding["volume_ml"]
    return f"{finding['voxels']} px" if volume is None else f"{volume:.2f} mL"


def _of_dicom(
    predictor: "Predictor", paths: list[Path], out: Path, settings: "Settings"
) -> list[dict[str, Any]]:
    from pipeline.study_files import StudyFiles

    files = StudyFiles(paths)
    rows = [_row(str(path), f"left out: {why}", [], analysed=None) for path, why in files.left_out]
    return [*(_of_study(predictor, study, files, out, settings) for study in files.studies), *rows]


def _of_study(
    predictor: "Predictor", study: "StudyImages", files: "StudyFiles", out: Path, settings: "Settings"
) -> dict[str, Any]:
    from pipeline.assignment import AnalyseAssignment
    from pipeline.read_study import analyse_study, plan_study
    from pipeline.write_results import write_results

    package, now = predictor.package, datetime.now(UTC)
    plan = plan_study(study, [package], files.read)
    series = [{"series": one.series_uid, "taken": one.taken, "why": one.sentence} for one in plan.choices]
    if not plan.analyses:
        why = plan.refusal.sentence if plan.refusal else "no series fits"
        return _row(study.study_uid, f"not analysed: {why}", [], analysed=False, series=series)
    model, chosen = plan.analyses[0]
    assignment = AnalyseAssignment(study, model, chosen, now, ())
    analysis = analyse_study(
        assignment,
        predictor,
        lambda sources, said: write_results(assignment, package, 0, sources, said, settings, files.read),
        read_bytes=files.read,
        stage=lambda _: None,
        bytes_max=VOLUME_BYTES_MAX,
    )
    if analysis.refusal is not None:
        why = f"not analysed: {analysis.refusal.sentence}"
        return _row(study.study_uid, why, [], analysed=False, series=series)
    folder = out / study.study_uid
    folder.mkdir(parents=True, exist_ok=True)
    written = [f"{one.kind}-{number}.dcm" for number, one in enumerate(analysis.objects, start=1)]
    for name, one in zip(written, analysis.objects, strict=True):
        (folder / name).write_bytes(one.part10)
    found = dict(analysis.findings)
    return _row(
        study.study_uid,
        f"read with {model}",
        [f"{study.study_uid}/{name}" for name in written],
        analysed=True,
        series=series,
        findings=found,
    )
