"""CARD.md of a sorter: what it says, how well, on what, and where it fails."""

from __future__ import annotations

from collections.abc import Sequence

from models.manifest import Evaluation
from models.sorting.answers import UNKNOWN
from models.sorting.cases import OTHER
from models.sorting.judging import SOURCE_WORDS, SOURCES, JudgedAnswer, confusion
from models.sorting.manifest import Question, SorterManifest

SUBSET_WORDS = {
    "scored": "Fold 0 and the pieces that are only judged, by the shipped file, which saw none of them:",
    "out-of-fold": "All five folds, each judged by the network of the same recipe that did not see it:",
}


def card_text(manifest: SorterManifest, judged: Sequence[JudgedAnswer]) -> str:
    """The whole card.

    Parameters
    ----------
    judged : by the shipped file, for the tables of what was said
    """
    card = manifest.card
    parts = [
        f"# {manifest.title} {manifest.version}\n\n{manifest.summary}\n\n**{card.line}**",
        f"## For\n\n{card.intended_use}",
        "## Not for\n\n" + _listed(card.not_for),
        "## Limits\n\n" + _listed(card.limits),
        "## What it answers\n\n" + "\n".join(_question(one) for one in manifest.questions),
        _figures(manifest),
        _confusions(manifest, judged),
        _training(manifest),
        "## Pictures\n\nGenerated series of the fold it did not see. Real ones are not shown: the data sets' "
        "terms do not allow it.\n\n![generated series](pictures/generated.jpg)",
        "## Licences\n\n" + _listed((*card.licences, *_data_lines(manifest))),
    ]
    return "\n\n".join(parts) + "\n"


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _question(question: Question) -> str:
    answers = ", ".join(answer.words for answer in question.answers)
    when = question.asked_when
    only = f" Asked only of {' or '.join(when.answers)}." if when else ""
    least = f" Only images of at least {question.pixels_min} pixels." if question.pixels_min > 1 else ""
    return (
        f"- **{question.words}**: {answers}; else unknown. Unknown below {question.threshold:.4g}, very sure "
        f"from {question.sure:.4g} (chosen on {question.chosen_on}).{only}{least}"
    )


def _figures(manifest: SorterManifest) -> str:
    lines = [
        "## Figures",
        "Mean over patients (or groups of near-duplicates) of the share of their series, 95 % interval by "
        "patient. Right: the true answer, or unknown for what is not on the list. Wrong: an answer that is "
        "not true. Missed: unknown, although the answer is on the list.",
    ]
    for subset, words in SUBSET_WORDS.items():
        rows = {row.metric: row for row in manifest.evaluation if row.subset == subset}
        table = [
            "| question | series | right | 95 % | wrong | missed | patients |",
            "|---|---|---|---|---|---|---|",
        ]
        for question in manifest.questions:
            for source in SOURCES:
                found = rows.get(f"accuracy_{question.name}_{source}")
                if found is not None:
                    table.append(_row(question, source, found, rows))
        lines += [words, "\n".join(table)]
    return "\n\n".join(lines)


def _row(question: Question, source: str, right: Evaluation, rows: dict[str, Evaluation]) -> str:
    wrong, missed = (rows[f"{metric}_{question.name}_{source}"].value for metric in ("wrong", "missed"))
    return (
        f"| {question.words} | {SOURCE_WORDS[source]} | {right.value:.3f} | {right.ci95[0]:.3f} to "
        f"{right.ci95[1]:.3f} | {wrong:.3f} | {missed:.3f} | {right.n} |"
    )


def _confusions(manifest: SorterManifest, judged: Sequence[JudgedAnswer]) -> str:
    lines = ["## What was said of what (shipped file, number of series)"]
    for question in manifest.questions:
        names = [answer.name for answer in question.answers]
        for source in SOURCES:
            counts = confusion(judged, question.name, source)
            if not counts:
                continue
            said = [*names, UNKNOWN]
            truths = [name for name in (*names, OTHER) if any(truth == name for truth, _ in counts)]
            table = [
                f"| {question.words}: true | {' | '.join(said)} |",
                "|---" * (len(said) + 1) + "|",
                *(
                    f"| {'none of these' if truth == OTHER else truth} | "
                    + " | ".join(str(counts.get((truth, name), 0)) for name in said)
                    + " |"
                    for truth in truths
                ),
            ]
            lines += [f"{question.words}, {SOURCE_WORDS[source]}:", "\n".join(table)]
    return "\n\n".join(lines)


def _training(manifest: SorterManifest) -> str:
    training, reading = manifest.training, manifest.input
    parts = (
        f"`preread models train {manifest.id} --data FOLDER --out FOLDER`; seed {training.seed}.",
        "The encoder stays as ImageNet left it; what it makes of the images is computed once, and the head",
        f"is trained on that in {training.steps} steps, {training.seconds:.0f} s on one busy core.",
        f"{manifest.runtime.parameters} parameters; {training.simulated_fraction:.0%} of the samples were",
        f"generated or derived. Each image is scaled to its own percentiles {reading.low:g} to",
        f"{reading.high:g} and to {reading.side} pixels, so that neither units and windows nor sizes and",
        "spacings are seen.",
    )
    return f"## Training\n\n{' '.join(parts)}"


def _data_lines(manifest: SorterManifest) -> list[str]:
    return [
        f"{item.name}: {item.licence} ({item.n} {item.unit}). {item.citation}"
        for item in manifest.training.data
    ]
