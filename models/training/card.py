"""CARD.md of a package: what it is for, what it was made from, how well it did, and when not to trust it."""

from __future__ import annotations

from collections.abc import Sequence

from models.evaluation.structure_metrics import structure_words
from models.manifest import Evaluation, Manifest
from models.training.run import TrainingRun

METRIC_WORDS = {
    "dice_per_patient_mean": "Dice per patient, mean",
    "dice_per_patient_median": "Dice per patient, median",
    "dice_per_lesion_image_mean": "Dice per image with a lesion, mean, after post-processing and class gate",
    "dice_per_lesion_image_mean_without_axilla": "the same without images of the axilla (text in the image)",
    "accuracy_three_classes": "accuracy over three classes",
    "auc_malignant": "area under the curve, malignant against the rest",
    "normals_drawn_on": "share of normal images with a lesion drawn",
    "dice_per_case_mean": "Dice per case, mean, where there is something to outline",
    "dice_per_case_median": "Dice per case, median, where there is something to outline",
    "negatives_drawn_on": "share of cases with nothing to outline that are drawn on",
    "class_accuracy": "share of cases whose class is right",
    "cpm": "sensitivity, mean at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false findings per study (CPM)",
    "cpm_from_6_mm": "CPM of lesions of 6 mm and more",
    "cpm_from_8_mm": "CPM of lesions of 8 mm and more",
    "sensitivity_at_1_false": "share of lesions found at 1 false finding per study",
    "lesions_found": "share of lesions found at the shipped setting",
    "false_findings_per_study": "false findings per study at the shipped setting, mean",
}


def card_text(
    manifest: Manifest,
    runs: Sequence[TrainingRun],
    pictures: Sequence[tuple[str, str]],
    notes: Sequence[str],
) -> str:
    """The card as Markdown. `pictures`: relative path and sentence of each; `notes`: on data and training."""
    card, training = manifest.card, manifest.training
    assert training is not None, "only a trained package has this card"
    lines = [
        f"# {manifest.title} ({manifest.id} {manifest.version})",
        "",
        manifest.summary,
        "",
        f"**Use.** {card.intended_use}",
        "",
        "**Not for:**",
        *[f"- {item}" for item in card.not_for],
        "",
        "## Figures",
        "",
        "On cases the training did not see (fold 0 of the frozen split, by patient or by group of "
        "near-duplicates), "
        "measured on the shipped file through the shipped post-processing. 95 % intervals: percentile "
        "bootstrap over "
        "groups, 2000 draws.",
        "",
        "| figure | value | 95 % interval | n |",
        "|---|---|---|---|",
        *[figure_row(row) for row in manifest.evaluation if row.subset == "scored"],
        "",
        *out_of_fold(manifest.evaluation),
        *naive_split(manifest.evaluation),
        f"Split: `{split_name(manifest)}`, sha256 `{manifest.evaluation[0].split_sha256}`."
        if manifest.evaluation
        else "",
        "",
        *[f"Operating point {item.name}: {item.chosen_on}." for item in manifest.operating_points],
        "",
        "## Data and licences",
        "",
        *[
            f"- {item.name}: {item.n} {item.unit} trained on. Licence: {item.licence}. Source: "
            f"{item.citation}."
            for item in training.data
        ],
        *[f"- Pretrained encoder: {item}." for item in training.pretrained],
        *generated(runs, training.simulated_fraction),
        f"- Commercial use: {'yes' if card.commercial_use else 'no'}. {'; '.join(card.licences)}.",
        "",
        "## Limits",
        "",
        *[f"- {item}" for item in card.limits],
        "",
        "## Training",
        "",
        f"Recipe `{training.recipe}` (sha256 `{training.recipe_sha256[:16]}`), seed {training.seed}, "
        f"{training.steps} steps in {training.seconds / 60:.0f} minutes, weights averaged over steps; "
        f"{manifest.runtime.parameters / 1e6:.1f} million parameters, kept as float16.",
        "",
        *[f"- {note}" for note in notes],
        "",
    ]
    if pictures:
        lines += ["## Pictures", ""]
        for path, sentence in pictures:
            lines += [f"![{sentence}]({path})", "", sentence, ""]
    return "\n".join(lines)


def out_of_fold(evaluation: Sequence[Evaluation]) -> list[str]:
    """Figures over all cases, where the networks of the other folds were trained, too."""
    rows = [figure_row(row) for row in evaluation if row.subset == "out-of-fold"]
    if not rows:
        return []
    return [
        "Over all folds: five networks of this recipe were trained, each without one fold, and each judged "
        "on the fold it did not see; the shipped one is the first. No case is judged by a network that saw "
        "it or a near-duplicate of it. This says what the recipe is worth, with less chance in it than one "
        "fold has.",
        "",
        "| figure, out of fold | value | 95 % interval | n |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


def naive_split(evaluation: Sequence[Evaluation]) -> list[str]:
    """Figures on folds that ignore groups, beside those above, where a network was trained for them."""
    rows = [figure_row(row) for row in evaluation if row.subset == "naive"]
    if not rows:
        return []
    return [
        "On a naive split, which ignores groups and lets a patient's other cases be trained on, another "
        "network of this recipe reaches the following. It shows what such figures of others may owe to their "
        "split, and is no claim of this package.",
        "",
        "| figure, naive split | value | 95 % interval | n |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


def split_name(manifest: Manifest) -> str:
    """Where the split is found."""
    if manifest.has("split"):
        return manifest.file("split").path
    return f"models/training/splits/{manifest.evaluation[0].dataset}.csv"


def generated(runs: Sequence[TrainingRun], fraction: float) -> list[str]:
    """What was generated, if anything was."""
    count = runs[-1].extra_cases
    if not count:
        return []
    return [
        f"- Generated cases (preread's own study generator): {count} cases, {100 * fraction:.1f} % of the "
        "training samples; none in the evaluation."
    ]


def metric_words(metric: str) -> str:
    """What a figure is called; names of figures of structures are read, for they hold the label."""
    return METRIC_WORDS.get(metric) or structure_words(metric) or metric


def figure_row(row: Evaluation) -> str:
    """One line of the table of figures."""
    words = metric_words(row.metric)
    return f"| {words} | {row.value:.3f} | {row.ci95[0]:.3f} to {row.ci95[1]:.3f} | {row.n} {row.unit} |"
