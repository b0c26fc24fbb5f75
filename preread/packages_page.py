"""The page of the shipped packages: figures, data, licences, limits, and what others published."""

from collections.abc import Iterator

from models.evaluation.published_figures import PUBLISHED, PUBLISHED_OF
from models.manifest import Manifest
from models.package import installed_packages_folder, list_packages
from models.training.card import metric_words
from models.training.recipe_file import shipped_recipe

SUBSETS = {
    "out-of-fold": "every case, judged by the network of the same recipe that did not see its fold",
    "scored": "fold 0, which the shipped file never saw",
    "naive": "fold 0 of a split that ignores groups, to show what that hides",
}


def packages_page(head: str) -> str:
    """Every package that comes with preread, from its own manifest."""
    parts = [
        head,
        "# Shipped packages\n\n",
        "Figures are those of the shipped files on cases that their training did not see, with 95 %\n"
        "intervals (percentile bootstrap by patient or group of near-duplicates). `preread models evaluate\n"
        "NAME` measures them again; [evaluation.md](evaluation.md) says what each means. Each card\n"
        "(`CARD.md` in the package) has pictures, the split and the command that makes the package. The\n"
        "series sorter has its figures in [models.md](models.md).\n",
    ]
    for listing in list_packages([installed_packages_folder()]):
        assert listing.package is not None, listing.error
        parts += _section(listing.package.manifest)
    return "".join(parts)


def _section(manifest: Manifest) -> Iterator[str]:
    card, training = manifest.card, manifest.training
    yield f"\n## {manifest.title} (`{manifest.id}` {manifest.version})\n\n{manifest.summary}\n\n"
    yield f"{card.intended_use}\n\n"
    yield "| on | figure | value | 95 % interval | n |\n| --- | --- | --- | --- | --- |\n"
    for subset in SUBSETS:
        for row in manifest.evaluation:
            if row.subset == subset:
                words = metric_words(row.metric)
                low, high = row.ci95
                yield f"| {subset} | {words} | {row.value:.3f} | {low:.3f} to {high:.3f} "
                yield f"| {row.n} {row.unit} |\n"
    found = {row.subset for row in manifest.evaluation}
    yield "\n" + "".join(f"- {name}: {words}.\n" for name, words in SUBSETS.items() if name in found)
    if training is not None:
        for data in training.data:
            yield f"\n**Data.** {data.name}, {data.n} {data.unit} trained on. Licence: {data.licence}. "
            yield f"{data.citation}.\n"
        if training.simulated_fraction:
            yield f"{100 * training.simulated_fraction:.0f} % of the samples were generated.\n"
    use = "may be used commercially" if card.commercial_use else "not for commercial use"
    yield f"\n**Weights.** {manifest.runtime.parameters / 1e6:.2f} million parameters, "
    yield f"{manifest.file('weights').bytes / 1e6:.1f} MB; {use} ({'; '.join(card.licences)}).\n"
    yield "\n**Limits.**\n\n" + "".join(f"- {one}\n" for one in card.limits)
    yield "\n**Not for** " + "; ".join(card.not_for) + ".\n"
    kind = shipped_recipe(manifest.id).kind
    if published := PUBLISHED_OF.get(manifest.id) or PUBLISHED.get(kind, ()):
        yield "\n**What others published on these data**\n\n"
        yield "| who | split | figure | compares? |\n| --- | --- | --- | --- |\n"
        for one in published:
            yield f"| {one.who} | {one.split} | {one.figure} | {one.compares} |\n"
