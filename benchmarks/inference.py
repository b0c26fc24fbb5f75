"""Prediction on a grid beside MONAI's sliding window: time as ratios, agreement, memory; and a whole study.

Both run the same network, window, overlap and Gaussian in one process with pinned threads, alternately and
warm; what is printed are medians with the least and greatest round, and the ratio of the medians. Memory is
measured in processes of their own: peak resident memory above input and result. Where a target is missed a
profile follows. Rows of a GPU appear where there is one.
`scripts/bench inference [--rounds 5] [--threads 2] [--only time,air,memory,study] [--features 8]`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch.profiler import ProfilerActivity, profile

from db.engine import Database
from db.instances import ByteStore, instances_of, series_of
from models.grid_steps import SkipBackground, Tiling
from models.inference.fit import Demand, Room, bytes_of, fit
from models.inference.layout import LaidOut, fastest_first, layouts, seconds_of
from models.inference.slab import Background, stream_logits, window_sizes
from models.inference.structures import returned
from models.inference.tuning import tune
from models.inference.wanted import Wanted
from models.inference.way_back import way_back
from models.inference.windows import Normaliser, WindowGrid
from models.networks.building import build_grid_network
from models.networks.registry import NnUNetPlainSpec
from models.package import installed_packages_folder, load_package
from models.predictor import Predictor
from pipeline.assignment import AnalyseAssignment, StudyImages
from pipeline.read_study import analyse_study, plan_study
from pipeline.write_results import write_results
from preread.demo.phantom_dicom import brain_study
from tests.pipeline_node import make_node

SIZES = (128, 256, 256)
LARGE = (1000, 512, 512)
WINDOW, LARGE_WINDOW = (64, 64, 64), (96, 96, 96)
BATCH = 2
HEADS = 3
GIB = 1 << 30
SECONDS_OF_A_STUDY = 10.0
console = Console()


@dataclass(frozen=True)
class Way:
    """One way from an image (1, 1, slices, rows, columns) to logits and labels."""

    name: str
    labels: Callable[[np.ndarray], np.ndarray]
    logits: Callable[[np.ndarray], np.ndarray]


def unet(features: int) -> torch.nn.Module:
    """A 3D U-Net as nnU-Net plans it, with random weights that say different things at different places."""
    torch.manual_seed(0)
    sizes = tuple(features * 2**stage for stage in range(4))
    spec = NnUNetPlainSpec(
        registry="nnunet_plain@1",
        dimensions=3,
        in_channels=1,
        heads=HEADS,
        features=sizes,
        kernels=((3, 3, 3),) * 4,
        strides=((1, 1, 1),) + ((2, 2, 2),) * 3,
        encoder_blocks=(2,) * 4,
        decoder_blocks=(2,) * 3,
        norm="instance",
        norm_eps=1e-5,
        bias=True,
        slope=0.01,
        members=1,
    )
    return build_grid_network(spec).eval()


def tiling(window: tuple[int, int, int], overlap: float, skip: SkipBackground | None = None) -> Tiling:
    """MONAI's Gaussian, softmax."""
    return Tiling(
        window=window,
        overlap=overlap,
        blend="gaussian",
        activation="softmax",
        lesion_heads=(1,),
        skip_background=skip,
    )


def monais(network: torch.nn.Module, how: Tiling, device: torch.device) -> Way:
    """MONAI's sliding_window_inference, whole logits and a count map."""

    def whole(image: np.ndarray) -> torch.Tensor:
        with torch.inference_mode():
            found = sliding_window_inference(
                torch.from_numpy(image)[None, None].to(device),
                how.window,
                BATCH,
                network,
                overlap=how.overlap,
                mode="gaussian",
            )
        assert isinstance(found, torch.Tensor)
        return found[0]

    def labels(image: np.ndarray) -> np.ndarray:
        return np.asarray(whole(image).argmax(0).to(torch.uint8).cpu().numpy())

    return Way("MONAI", labels, lambda image: np.asarray(whole(image).cpu().numpy()))


def ours(network: Any, how: Tiling, device: torch.device, heads: int = HEADS) -> Way:
    """The stream of preread, labels as it comes."""
    wanted = Wanted(heads, "softmax", tuple((head,) for head in range(1, heads)))

    def pieces(image: np.ndarray) -> Iterator[Any]:
        skip = how.skip_background
        demand = demand_of(image.shape, how, heads)
        room = Room(64 * GIB, 64 * GIB if device.type == "cuda" else None)
        return stream_logits(
            network,
            image[None],
            how,
            heads=heads,
            slab=fit(demand, room, batch=BATCH).slab,
            device=device,
            background=None
            if skip is None
            else Background(skip.above, skip.margin, wanted.background_logits()),
        )

    def labels(image: np.ndarray) -> np.ndarray:
        sizes = (image.shape[0], image.shape[1], image.shape[2])
        found = returned(pieces(image), way_back((), sizes), wanted, sizes, slices=8).labels
        assert found is not None
        return found

    def logits(image: np.ndarray) -> np.ndarray:
        return np.concatenate([piece.values.cpu().numpy() for piece in pieces(image)], 1)

    return Way("preread", labels, logits)


def demand_of(sizes: Sequence[int], how: Tiling, heads: int) -> Demand:
    """What `structures_on_grid` would ask for, for an image that is on its grid already."""
    grid = (sizes[0], sizes[1], sizes[2])
    window = window_sizes(how)
    return Demand(
        window=window,
        grid=grid,
        plane=sizes[1] * sizes[2],
        heads=heads,
        depths=(WindowGrid.over(grid, window, how.overlap).depth(1),),
        normaliser=Normaliser.bytes_needed(grid, window, how.blend),
        result=sizes[0] * sizes[1] * sizes[2],
        window_bytes=0,
    )


def textured(sizes: tuple[int, int, int]) -> np.ndarray:
    """Smooth structure and noise, float32, mean about 0."""
    generator = np.random.default_rng(0)
    coarse = torch.from_numpy(generator.normal(size=(1, 1, *(max(2, size // 16) for size in sizes))))
    smooth = torch.nn.functional.interpolate(coarse.float(), sizes, mode="trilinear")[0, 0].numpy()
    return np.asarray(smooth + generator.normal(0, 0.1, sizes), dtype=np.float32)


def body_in_air(sizes: tuple[int, int, int]) -> tuple[np.ndarray, float]:
    """A CT-like image: air at -1 with noise, an elliptic body; and the share of air."""
    image = textured(sizes)
    rows, columns = (np.linspace(-1, 1, size) for size in sizes[1:])
    body = (rows[:, None] / 0.62) ** 2 + (columns[None] / 0.86) ** 2 <= 1
    image = np.where(body, image.clip(-0.4), np.float32(-1) + 0.02 * image.clip(-2, 2))
    return image.astype(np.float32), float(1 - body.mean())


def alternately(ways: Sequence[Way], image: np.ndarray, rounds: int, title: str) -> dict[str, list[float]]:
    """Seconds of each round, warm, one way after the other."""
    taken: dict[str, list[float]] = {way.name: [] for way in ways}
    with _progress() as progress:
        task = progress.add_task(title, total=(rounds + 1) * len(ways))
        for turn in range(rounds + 1):
            for way in ways if turn % 2 else reversed(ways):
                began = time.perf_counter()
                way.labels(image)
                _wait()
                if turn:
                    taken[way.name].append(time.perf_counter() - began)
                progress.advance(task)
    return taken


def compare(title: str, ways: tuple[Way, Way], image: np.ndarray, rounds: int, target: float) -> None:
    """Print seconds, ratio and agreement; the first way is the other's."""
    theirs, mine = ways
    taken = alternately(ways, image, rounds, title)
    ratio = median(taken[mine.name]) / median(taken[theirs.name])
    spread = [a / b for a, b in zip(taken[mine.name], taken[theirs.name], strict=True)]
    console.print(f"[bold]{title}[/bold]")
    for name, seconds in taken.items():
        console.print(f"  {name:8} {median(seconds):7.2f} s  ({min(seconds):.2f} to {max(seconds):.2f})")
    _told("ratio", ratio, f"({min(spread):.3f} to {max(spread):.3f})", target)
    skipping = "air" in title
    a, b = theirs.logits(image), mine.logits(image)
    inside = (image > -0.7) if skipping else np.ones(image.shape, bool)
    equal = float((a.argmax(0) == b.argmax(0))[inside].mean())
    difference = float(np.abs(a - b)[:, inside].max())
    where = " in the body; windows lie elsewhere, over its box" if skipping else ""
    console.print(
        f"  labels equal {100 * equal:.4f} %, largest difference of a logit {difference:.2e}{where}"
    )
    if ratio > target:
        _profile(lambda: mine.labels(image))


def measure_time(device: torch.device, features: int, rounds: int) -> None:
    """Rows without skipping and with it."""
    network = unet(features).to(device)
    example = torch.randn(BATCH, 1, *WINDOW, device=device)
    measured = seconds_of(network, example, layouts(bfloat16=False))
    chosen = fastest_first(measured)[0]
    told = ", ".join(f"{one} {1000 * taken:.0f} ms" for one, taken in measured.items())
    console.print(f"{device}: one batch of {BATCH}: {told}; chosen: {chosen}")
    laid_out = LaidOut(unet(features).to(device), chosen)
    how = tiling(WINDOW, 0.5)
    pair = monais(network, how, device), ours(laid_out, how, device)
    title = f"{device}, {SIZES[1]} x {SIZES[2]} x {SIZES[0]}, {HEADS} classes, windows of {WINDOW[0]}"
    target = 1.0 if device.type == "cpu" else 0.85
    compare(f"{title}, no skipping", pair, textured(SIZES), rounds, target)


def measure_air(device: torch.device, features: int, rounds: int) -> None:
    """The row with skipping."""
    network = unet(features).to(device)
    how, skipping = tiling(WINDOW, 0.5), tiling(WINDOW, 0.5, SkipBackground(above=-0.7, margin=4))
    image, share = body_in_air(SIZES)
    layout = fastest_first(
        seconds_of(network, torch.randn(BATCH, 1, *WINDOW, device=device), layouts(bfloat16=False))
    )[0]
    pair = monais(network, how, device), ours(LaidOut(unet(features).to(device), layout), skipping, device)
    compare(f"{device}, {100 * share:.0f} % air, skipping", pair, image, rounds, 0.6)


def measure_memory(heads: int, who: str, target: float | None) -> None:
    """Run the large case in a process of its own and print its peak above input and result."""
    command = [sys.executable, "-m", "benchmarks.inference", "--child", who, "--heads", str(heads)]
    with _progress() as progress:
        progress.add_task(f"{who}, {heads} classes, 512 x 512 x 1000", total=None)
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        console.print(f"  {who}, {heads} classes: ended with {run.returncode}: {run.stderr[-300:]}")
        return
    found = json.loads(run.stdout)
    gib, took = found["gib"], f"{found['seconds']:.0f} s"
    console.print(
        f"[bold]512 x 512 x 1000, {heads} classes, {who}[/bold] in {took}: memory beside input and result"
    )
    if target is None:
        console.print(f"  GiB {gib:.3f}")
    else:
        _told("GiB", gib, f"({found['planned']:.3f} planned)", target)


def child(who: str, heads: int) -> None:
    """The large case with a network of one small convolution."""
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, heads, 1).eval()
    how = tiling(LARGE_WINDOW, 0.25)
    cpu = torch.device("cpu")
    way = ours(network, how, cpu, heads) if who == "preread" else monais(network, how, cpu)
    way.labels(np.zeros(LARGE_WINDOW, np.float32))  # the libraries' own memory
    image = np.empty(LARGE, np.float32)
    generator = np.random.default_rng(0)
    for plane in image:
        plane[:] = generator.normal(size=plane.shape)
    before = _peak_bytes()
    began = time.perf_counter()
    labels = way.labels(image)
    seconds = time.perf_counter() - began
    demand = demand_of(LARGE, how, heads)
    planned = bytes_of(fit(demand, Room(64 * GIB), batch=BATCH), demand)[0] - labels.nbytes
    beside = _peak_bytes() - before - labels.nbytes
    print(json.dumps({"gib": beside / GIB, "planned": planned / GIB, "seconds": seconds}))


def measure_study(rounds: int, threads: int) -> None:
    """A FLAIR study of 24 slices by the shipped package: plan, decode, predict, measure, write."""
    package = load_package(installed_packages_folder() / "brain-flair-lesion")
    totals, stages = [], {}
    with tempfile.TemporaryDirectory(prefix="preread-bench-") as name:
        folder = Path(name)
        began = time.perf_counter()
        predictor = Predictor(package, device="cpu", threads=threads)
        tune(predictor, folder)
        loading = time.perf_counter() - began
        node = make_node(folder, f"sqlite:///{folder / 'bench.db'}")
        node.database.migrate()
        study = brain_study(1, series=("AX FLAIR",))
        (uid,) = node.receive(study.datasets)
        images, read = _study_images(node.database, node, uid)
        with _progress() as progress:
            task = progress.add_task("FLAIR study", total=rounds + 1)
            for turn in range(rounds + 1):
                marks: list[tuple[str, float]] = [("planning", time.perf_counter())]
                plan = plan_study(images, [package], read)
                ((model, series),) = plan.analyses
                assignment = AnalyseAssignment(images, model, series, time.time(), ())
                analysis = analyse_study(
                    assignment,
                    predictor,
                    lambda sources, found, a=assignment: write_results(  # type: ignore[misc]
                        a, package, 0, sources, found, node.settings, read
                    ),
                    read_bytes=read,
                    stage=lambda stage, marks=marks: marks.append((stage, time.perf_counter())),  # type: ignore[misc]
                    bytes_max=1 << 30,
                )
                marks.append(("end", time.perf_counter()))
                assert analysis.refusal is None, analysis.refusal
                progress.advance(task)
                if turn:
                    totals.append(marks[-1][1] - marks[0][1])
                    for (stage, start), (_, end) in pairwise(marks):
                        stages.setdefault(stage, []).append(end - start)
        node.close()
    console.print("[bold]FLAIR study of 24 slices, plan and decode to findings and result objects[/bold]")
    console.print(f"  loading and tuning once {loading:.1f} s, {predictor.layout}")
    console.print("  " + ", ".join(f"{stage} {median(taken):.2f} s" for stage, taken in stages.items()))
    _told("seconds", median(totals), f"({min(totals):.2f} to {max(totals):.2f})", SECONDS_OF_A_STUDY)


def _study_images(database: Database, node: Any, uid: str) -> tuple[StudyImages, Any]:
    record = node.view(uid).study
    images = StudyImages(
        record.id,
        uid,
        record.revision,
        tuple(instances_of(database, record.id)),
        tuple(series_of(database, record.id)),
    )
    return images, ByteStore(node.settings.spool_folder).read


def _told(what: str, value: float, spread: str, target: float) -> None:
    verdict = "[green]met[/green]" if value <= target else "[red]missed[/red]"
    console.print(f"  {what} {value:.3f} {spread}, target {target:.2f}: {verdict}")


def _profile(run: Callable[[], Any]) -> None:
    with profile(activities=[ProfilerActivity.CPU]) as found:
        run()
    console.print(
        found.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40)
    )


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def main() -> None:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--features", type=int, default=8, help="of the network's first stage")
    parser.add_argument("--only", default="time,air,memory,study")
    parser.add_argument("--child", choices=["preread", "MONAI"], help=argparse.SUPPRESS)
    parser.add_argument("--heads", type=int, default=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.set_num_interop_threads(1)
    if chosen.child:
        child(chosen.child, chosen.heads)
        return
    parts = chosen.only.split(",")
    load = os.getloadavg()[0]
    console.print(
        f"torch {torch.__version__}, {chosen.threads} threads, {chosen.rounds} rounds, load {load:.1f}"
    )
    devices = [torch.device("cpu")] + ([torch.device("cuda")] if torch.cuda.is_available() else [])
    for device in devices:
        if "time" in parts:
            measure_time(device, chosen.features, chosen.rounds)
        if "air" in parts:
            measure_air(device, chosen.features, chosen.rounds)
    if "memory" in parts:
        measure_memory(3, "preread", 0.7)
        measure_memory(25, "preread", 3.5)
        measure_memory(3, "MONAI", None)
    if "study" in parts:
        measure_study(chosen.rounds, chosen.threads)


if __name__ == "__main__":
    main()
