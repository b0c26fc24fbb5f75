"""Files dropped on the page Upload, in a real Chromium: progress, an outcome for each, a narrow screen."""

import base64
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from chromium import chromium
from dicom_peer import ct_dataset, new_uid
from loop_thread import LoopThread, loop_thread
from part10_file import dicom_file
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from config.settings import Settings
from db.engine import Database

__all__ = ["chromium"]  # a fixture

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60
DROP = """
const [names, contents] = arguments, carried = new DataTransfer();
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
names.forEach((name, i) => carried.items.add(new File([bytes(contents[i])], name)));
const dropped = new DragEvent("drop", { bubbles: true, dataTransfer: carried });
document.getElementById("drop").dispatchEvent(dropped);
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, LoopThread]]:
    """Address of a page that takes uploads, and the loop that gets them."""
    folder = tmp_path_factory.mktemp("upload")
    tree = {
        "state_folder": str(folder / "state"),
        "web": {"port": 0, "upload": True},
        "listener": {"reserve_gib": 0},
    }
    settings = Settings.model_validate(tree)
    (folder / "preread.yaml").write_text(yaml.safe_dump(tree))
    with loop_thread(settings) as loop:
        database = Database.open(settings.database_url)
        database.migrate()
        database.close()
        read_end, write_end = os.pipe()
        page = subprocess.Popen(
            [sys.executable, "-m", "preread", "web", "--config", str(folder / "preread.yaml")],
            env={**os.environ, "PREREAD_READY_FD": str(write_end), "PYTHONPATH": str(ROOT)},
            pass_fds=(write_end,),
            stderr=subprocess.DEVNULL,
        )
        os.close(write_end)
        with os.fdopen(read_end) as ready:
            port = json.loads(ready.readline())["web"]
        yield f"http://127.0.0.1:{port}", loop
        page.terminate()
        assert page.wait(30) == 0


def image() -> tuple[str, bytes]:
    uid = new_uid()
    return uid, dicom_file(uid, ct_dataset(uid, pixels=bytes(20_000)))


def over(browser: webdriver.Chrome) -> dict[str, int]:
    """The counts, when everything was sent."""
    WebDriverWait(browser, PATIENCE_SECONDS).until(
        lambda b: b.find_element(By.ID, "sent").get_attribute("data-over") == "true"
    )
    return {
        state: int(browser.find_element(By.CSS_SELECTOR, f"[data-count={state}]").text)
        for state in ("stored", "skipped", "refused")
    }


def rows(browser: webdriver.Chrome) -> list[list[str]]:
    found = browser.find_elements(By.CSS_SELECTOR, "#sent-rows tr")
    return [[cell.text for cell in row.find_elements(By.TAG_NAME, "td")] for row in found]


def test_chosen_files_and_a_zip_are_stored_and_each_outcome_is_shown(
    chromium: webdriver.Chrome, node: tuple[str, LoopThread], tmp_path: Path
) -> None:
    url, loop = node
    uids = []
    for name in ("one.dcm", "two.dcm"):
        uid, content = image()
        uids.append(uid)
        (tmp_path / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / "disc.zip", "w") as disc:
        for number in range(3):
            uid, content = image()
            uids.append(uid)
            disc.writestr(f"DICOM/{number}", content)
        disc.writestr("README.TXT", "hello")
    broken = new_uid()
    (tmp_path / "broken.dcm").write_bytes(dicom_file(broken, ct_dataset(broken)[:-2]))
    chromium.set_window_size(1400, 900)
    chromium.get(f"{url}/upload")
    chosen = sorted(str(path) for path in tmp_path.iterdir())
    chromium.find_element(By.ID, "files").send_keys("\n".join(chosen))
    assert over(chromium) == {"stored": 5, "skipped": 1, "refused": 1}
    shown = {(name, outcome): why for name, outcome, why in rows(chromium)}
    assert "bytes short" in shown["broken.dcm", "refused"]
    assert "not a DICOM file" in shown["disc.zip / README.TXT", "skipped"]
    assert ("disc.zip / DICOM/2", "stored") in shown
    assert set(uids) <= loop.kept().keys()
    chromium.save_screenshot(str(tmp_path / "desktop.png"))


def test_dropped_files_are_stored_on_a_narrow_screen_without_scrolling_sideways(
    chromium: webdriver.Chrome, node: tuple[str, LoopThread], tmp_path: Path
) -> None:
    url, loop = node
    uid, content = image()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as writing:
        writing.writestr("a folder with a rather long name/" * 3 + "notes.txt", "nothing")
    chromium.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 380, "height": 780, "deviceScaleFactor": 2, "mobile": True},
    )
    try:
        chromium.get(f"{url}/upload")
        contents = [base64.b64encode(part).decode() for part in (content, packed.getvalue())]
        chromium.execute_script(DROP, ["dropped.dcm", "notes.zip"], contents)
        assert over(chromium) == {"stored": 1, "skipped": 1, "refused": 0}
        assert uid in loop.kept()
        assert chromium.execute_script("return document.documentElement.scrollWidth") <= 380
        chromium.save_screenshot(str(tmp_path / "phone.png"))
    finally:
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_no_script_of_the_page_complains(chromium: webdriver.Chrome, node: tuple[str, LoopThread]) -> None:
    chromium.get(f"{node[0]}/upload")
    assert [line for line in chromium.get_log("browser") if line["level"] == "SEVERE"] == []
