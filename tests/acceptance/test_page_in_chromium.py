"""The page as people use it, in a real Chromium: keys, wheel, drag, a narrow screen, contrast."""

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from chromium import chromium
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

__all__ = ["chromium"]  # a fixture

ROOT = Path(__file__).parents[2]
PAGES = ("/", "/studies/1", "/studies/2", "/studies/3", "/queue", "/models", "/node", "/nowhere")
PATIENCE_SECONDS = 60  # a loaded machine is slow, not wrong
CONTRASTS = (Path(__file__).parent / "contrast.js").read_text()


def _seeded() -> ModuleType:
    name = "seeded_page"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "tests/unit/preread/web/seeded.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


class Service:
    """`preread web` on a seeded node."""

    def __init__(self, node, folder: Path) -> None:
        self.node = node
        config = folder / "preread.yaml"
        config.write_text(yaml.safe_dump(node.settings.model_dump(mode="json")))
        read_end, write_end = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "preread", "web", "--config", str(config)],
            env={**os.environ, "PREREAD_READY_FD": str(write_end), "PYTHONPATH": str(ROOT)},
            pass_fds=(write_end,),
            stderr=subprocess.PIPE,
        )
        os.close(write_end)
        with os.fdopen(read_end) as ready:
            line = ready.readline()
        assert line, self.process.communicate()[1].decode()
        self.url = f"http://127.0.0.1:{json.loads(line)['web']}"

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)
        return self.process.returncode


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Brain with two lesions, breast that is urgent, a refused CT with markup for a name."""
    seeded = _seeded()
    folder = tmp_path_factory.mktemp("page")
    node = seeded.SeededNode(folder / "node")
    node.clock.step(-600)
    node.brain()
    node.breast()
    hostile = seeded.mr_series(
        np.full((4, 32, 32), 100.0),
        Modality="CT",
        SOPClassUID=seeded.CT,
        PatientName="<img src=x onerror=document.title='broken'>" + "W" * 60,
        StudyDescription="<script>document.title='broken'</script>" + "long" * 30,
        AccessionNumber="A" * 40,
    )
    refused = node.receive(hostile)
    node.whole(refused)
    node.planned(refused, model=None, sentence="No installed model wants any of the 1 series of this study")
    running = Service(node, folder)
    yield running
    running.stop()
    node.close()


@pytest.fixture
def visit(chromium: webdriver.Chrome, service: Service) -> Callable[..., webdriver.Chrome]:
    """Open a page on a screen of a size, in the dark unless light is asked for."""

    def go(path: str, *, width: int = 1400, height: int = 900, light: bool = False) -> webdriver.Chrome:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        chromium.get(service.url + "/static/icon.svg")
        chromium.delete_all_cookies()
        if light:
            chromium.add_cookie({"name": "preread-view", "value": "light"})
        chromium.get_log("browser")
        chromium.get(service.url + path)
        return chromium

    return go


def until(browser: webdriver.Chrome, what: Callable[[], object]) -> object:
    """A part that is replaced while it is read is read again."""
    replaced = [NoSuchElementException, StaleElementReferenceException]
    wait = WebDriverWait(browser, PATIENCE_SECONDS, poll_frequency=0.1, ignored_exceptions=replaced)
    return wait.until(lambda _: what())


def shown(browser: webdriver.Chrome) -> int | None:
    """Index of the slice that is painted."""
    value = browser.execute_script("return document.getElementById('viewer')?.dataset.shown ?? null")
    return None if value is None else int(value)


def painted(browser: webdriver.Chrome, canvas: str) -> np.ndarray:
    """Pixels of a canvas of the viewer, RGBA."""
    address = browser.execute_script(
        f"return document.querySelector('#viewer canvas.{canvas}').toDataURL('image/png')"
    )
    import base64

    raw = base64.b64decode(address.split(",", 1)[1])
    return np.asarray(Image.open(io.BytesIO(raw)).convert("RGBA"))


def press(browser: webdriver.Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def has_overlay(browser: webdriver.Chrome) -> bool:
    return not browser.execute_script("return document.querySelector('#viewer .overlay').hidden")


def test_rows_are_chosen_and_opened_by_keys(visit) -> None:
    browser = visit("/")
    rows = [row.get_attribute("id") for row in browser.find_elements(By.CSS_SELECTOR, "[data-row]")]
    assert rows[0] == "study-2"  # the urgent one
    press(browser, "j", "j", "k")
    (chosen,) = browser.find_elements(By.CSS_SELECTOR, ".chosen")
    assert chosen.get_attribute("id") == rows[0]
    press(browser, Keys.ENTER)
    until(browser, lambda: browser.current_url.endswith("/studies/2"))
    press(browser, "u")
    until(browser, lambda: browser.current_url.endswith("/"))


def test_the_search_filters_while_one_types_and_stays_out_of_the_address(visit) -> None:
    browser = visit("/")
    before = browser.current_url
    press(browser, "/")
    press(browser, "4711")
    until(browser, lambda: "that match the search" in browser.find_element(By.ID, "worklist").text)
    assert len(browser.find_elements(By.CSS_SELECTOR, "[data-row]")) == 3
    press(browser, "x")
    until(browser, lambda: "Nothing found" in browser.find_element(By.ID, "worklist").text)
    assert browser.current_url == before


def test_a_question_mark_lists_the_keys(visit) -> None:
    browser = visit("/queue")
    press(browser, "?")
    until(browser, lambda: browser.find_element(By.ID, "keys").is_displayed())
    press(browser, Keys.ESCAPE)
    until(browser, lambda: not browser.find_element(By.ID, "keys").is_displayed())


def test_a_new_study_appears_in_place_and_the_chosen_row_stays(visit, service) -> None:
    browser = visit("/")
    press(browser, "j", "j")
    chosen = browser.find_element(By.CSS_SELECTOR, ".chosen").get_attribute("id")
    count = len(browser.find_elements(By.CSS_SELECTOR, "[data-row]"))
    browser.execute_script("window.sameDocument = true")
    service.node.receive(_seeded().mr_series(np.full((2, 32, 32), 100.0), AccessionNumber="LATE"))
    until(browser, lambda: "LATE" in browser.find_element(By.ID, "worklist").text)
    assert len(browser.find_elements(By.CSS_SELECTOR, "[data-row]")) == count + 1
    assert browser.find_element(By.CSS_SELECTOR, ".chosen").get_attribute("id") == chosen
    assert browser.execute_script("return window.sameDocument") is True


def test_the_viewer_begins_at_the_key_slice_of_the_first_lesion_with_its_contour(visit) -> None:
    browser = visit("/studies/1")
    until(browser, lambda: shown(browser) == 3)
    assert has_overlay(browser)
    contour = painted(browser, "overlay")
    truth = _seeded().small_brain()[1][3] == 1
    scale = contour.shape[0] / truth.shape[0]
    rows, columns = np.nonzero(contour[..., 3] == 255)
    inside = (rows < 36 * scale) & (columns < 36 * scale)  # the first lesion, without its number
    centre = (rows[inside].mean() / scale - 0.5, columns[inside].mean() / scale - 0.5)
    assert np.hypot(centre[0] - 24, centre[1] - 26) < 3


def test_wheel_arrows_and_slider_scroll_and_the_picture_follows(visit) -> None:
    browser = visit("/studies/1")
    until(browser, lambda: shown(browser) == 3)
    first = painted(browser, "slice")
    stage = browser.find_element(By.CSS_SELECTOR, "#viewer .stage")
    ActionChains(browser).scroll_from_origin(
        webdriver.common.actions.wheel_input.ScrollOrigin.from_element(stage), 0, 60
    ).perform()
    until(browser, lambda: shown(browser) == 4)
    assert not np.array_equal(painted(browser, "slice"), first)
    press(browser, Keys.ARROW_UP)
    until(browser, lambda: shown(browser) == 3)
    assert np.array_equal(painted(browser, "slice"), first)
    press(browser, Keys.END)
    until(browser, lambda: shown(browser) == 5)
    press(browser, Keys.ARROW_DOWN)  # there is no further one
    press(browser, Keys.HOME)
    until(browser, lambda: shown(browser) == 0)
    assert "1 / 6" in browser.find_element(By.CSS_SELECTOR, "[data-place]").text


def test_o_f_and_brackets_change_the_overlay(visit) -> None:
    browser = visit("/studies/1")
    until(browser, lambda: shown(browser) == 3 and has_overlay(browser))
    contour = painted(browser, "overlay")
    press(browser, "o")
    until(browser, lambda: not has_overlay(browser))
    press(browser, "o")
    until(browser, lambda: has_overlay(browser))
    press(browser, "f")
    until(browser, lambda: np.count_nonzero(painted(browser, "overlay")) > 1.3 * np.count_nonzero(contour))
    press(browser, "[", "[", "[")
    opacity = "return document.querySelector('#viewer .overlay').style.opacity"
    assert browser.execute_script(opacity) == "0.7"
    press(browser, "]")
    assert browser.execute_script(opacity) == "0.8"


def test_a_drag_changes_the_window_and_r_takes_it_back(visit) -> None:
    browser = visit("/studies/1")
    until(browser, lambda: shown(browser) == 3)
    first = painted(browser, "slice")
    words = browser.find_element(By.CSS_SELECTOR, "[data-window]").text
    stage = browser.find_element(By.CSS_SELECTOR, "#viewer .stage")
    ActionChains(browser).drag_and_drop_by_offset(stage, 90, -70).perform()
    until(browser, lambda: browser.find_element(By.CSS_SELECTOR, "[data-window]").text != words)
    until(browser, lambda: not np.array_equal(painted(browser, "slice"), first))
    press(browser, "r")
    until(browser, lambda: browser.find_element(By.CSS_SELECTOR, "[data-window]").text == words)
    until(browser, lambda: np.array_equal(painted(browser, "slice"), first))


def test_a_finding_jumps_to_its_key_slice_and_is_marked(visit) -> None:
    browser = visit("/studies/1")
    until(browser, lambda: shown(browser) == 3)
    press(browser, Keys.HOME)
    until(browser, lambda: shown(browser) == 0)
    lesions = browser.find_elements(By.CSS_SELECTOR, "[data-lesion]")
    lesions[1].click()
    until(browser, lambda: shown(browser) == 3)
    assert "here" in lesions[1].get_attribute("class")
    assert browser.current_url.endswith("/studies/1")
    press(browser, Keys.HOME)
    until(browser, lambda: shown(browser) == 0)
    press(browser, "n")
    until(browser, lambda: shown(browser) == 3)


def test_identities_are_hidden_by_one_switch(visit) -> None:
    browser = visit("/")
    assert "DOE, JANE" in browser.page_source
    browser.find_element(By.CSS_SELECTOR, "button[name=hide]").click()
    until(browser, lambda: "Identities hidden" in browser.page_source)
    assert "DOE" not in browser.page_source


@pytest.mark.parametrize("light", [False, True], ids=["dark", "light"])
@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_a_narrow_screen_and_its_text_can_be_read(visit, path, light) -> None:
    browser = visit(path, width=380, height=800, light=light)
    if path.startswith("/studies/"):
        until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#viewer, .stage.nothing"))
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= 380
    poor = browser.execute_script(CONTRASTS)
    assert poor == []


@pytest.mark.parametrize("path", PAGES)
def test_a_page_breaks_no_rule_of_its_own_and_runs_no_text_of_a_peer(visit, path) -> None:
    browser = visit(path)
    if path.startswith("/studies/"):
        until(browser, lambda: shown(browser) is not None)
    assert browser.title != "broken"
    allowed = 1 if path == "/nowhere" else 0  # the 404 of the page itself
    assert len([entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]) == allowed
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= 1400


def test_the_service_ends_at_once_with_exit_code_0(tmp_path) -> None:
    node = _seeded().SeededNode(tmp_path / "node")
    try:
        assert Service(node, tmp_path).stop() == 0
    finally:
        node.close()
