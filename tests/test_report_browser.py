"""The report page in a real browser: what is clicked, typed and seen."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from report_samples import records, written

pytestmark = pytest.mark.browser

FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]
FLAGS += ["--window-size=1280,900", "about:blank"]

#: The least contrast that WCAG asks of text, and what is found on the page: text, its colour and what is behind it.
LEAST_CONTRAST = 4.5
FIND_COLOURS = """
const found = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || element.closest(".unseen") || !element.getClientRects().length) continue;
  let behind = element;
  const clear = "rgba(0, 0, 0, 0)";
  while (behind.parentElement && getComputedStyle(behind).backgroundColor === clear) behind = behind.parentElement;
  const style = getComputedStyle(element);
  const colour = element.closest("svg") ? style.fill : style.color;
  found.push([element.textContent.trim().slice(0, 30), colour, getComputedStyle(behind).backgroundColor]);
}
return found;
"""


class Browser:
    """Chromium with the page open."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver, self.address = driver, address

    def run(self, script: str, *given: object) -> Any:
        return self.driver.execute_script(script, *given)

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def shown(self, table: str, column: int = 0) -> list[str]:
        """Texts of a column, as they stand on the screen."""
        cells = "[...document.getElementById(arguments[0]).tBodies[0].rows].filter((row) => !row.hidden)"
        return self.run(f"return {cells}.map((row) => row.cells[arguments[1]].innerText.trim())", table, column)

    def heads(self, table: str) -> list[str]:
        """Headings that are shown."""
        cells = "[...document.getElementById(arguments[0]).tHead.rows[0].cells].filter((cell) => cell.offsetParent)"
        return self.run(f"return {cells}.map((cell) => cell.querySelector('.label').innerText.trim())", table)

    def set(self, field: str, value: str) -> None:
        """Fill a field in as a person does."""
        from selenium.webdriver.support.ui import Select

        element = self.one(f"#filters [name={field}]")
        if element.tag_name == "select":
            Select(element).select_by_value(value)
        else:
            element.clear()
            element.send_keys(value)

    def click(self, selector: str) -> None:
        """Click on what may lie out of sight or under the bar of filters."""
        element = self.one(selector)
        self.run("arguments[0].scrollIntoView({block: 'center', inline: 'center'})", element)
        element.click()

    def click_head(self, table: str, column: int) -> None:
        self.click(f"#{table} thead th:nth-child({column + 1}) button")

    def press(self, *keys: str) -> None:
        """Keys that go to whatever has the focus."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def focused(self) -> str:
        return self.run("return document.activeElement.innerText || document.activeElement.ariaLabel")

    def prefer(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        features += [{"name": "prefers-reduced-motion", "value": "reduce"}]  # what is clicked must not move
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def resize(self, width: int) -> None:
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def background(self) -> float:
        """Lightness of the page: 0 is black."""
        colour = self.run("return getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / (3 * 255)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.binary_location = str(shutil.which("chromium"))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_script_timeout(180)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    written(records(), folder)
    return (folder / "report.html").as_uri()


@pytest.fixture
def browser(driver: Any, address: str) -> Iterator[Browser]:
    """The page as it is when it is opened for the first time."""
    opened = Browser(driver, address)
    opened.resize(1280)
    opened.prefer("light")
    driver.get(address)
    yield opened
    opened.run("localStorage.clear()")


def test_columns_sort_by_number_and_by_name(browser: Browser) -> None:
    """Either way round, by value rather than by letters; what is missing stays last; the heading says which way."""
    order = browser.shown("ranking")
    assert order[0] == "best"
    head = browser.one("#ranking thead th:nth-child(2)")
    assert head.get_attribute("aria-sort") is None
    browser.click_head("ranking", 1)
    assert head.get_attribute("aria-sort") == "ascending"
    assert browser.shown("ranking") == order
    browser.click_head("ranking", 1)
    assert head.get_attribute("aria-sort") == "descending"
    found = browser.shown("ranking", 1)
    assert found[-2:] == ["–\nnot ranked"] * 2
    assert [float(rank) for rank in found[:-2]] == sorted(map(float, found[:-2]), reverse=True)
    browser.click_head("ranking", 4)
    found = browser.shown("ranking", 4)[:4]
    assert found == ["0.010", "0.100", "1.000", "10.000"]
    assert head.get_attribute("aria-sort") is None
    browser.click_head("ranking", 0)
    assert browser.shown("ranking") == sorted(order)


def test_filters_narrow_down_every_table(browser: Browser) -> None:
    """By part of a name, inputs, zoo and property, all at once; how much is left is said aloud; a button undoes it."""
    whole = browser.shown("records")
    browser.set("method", "MIDDLE")
    assert browser.shown("ranking") == browser.shown("scores-0") == ["middle_one"]
    assert browser.one("#count").text == "Showing 1 of 6 methods and 8 of 34 results."
    assert browser.one("#count").get_attribute("aria-live") == "polite"
    browser.set("zoo", "digits_cnn_s_seed")
    browser.set("property", "lr")
    assert browser.shown("records", 1) == ["digits_cnn_s_seed"]
    assert browser.shown("records", 2) == ["learning rate"]
    assert [zoo.is_displayed() for zoo in browser.driver.find_elements("css selector", ".zoo")] == [False, True]
    assert browser.heads("scores-1") == ["method", "learning rate"]
    browser.set("inputs", "both")
    assert browser.shown("ranking") == []
    assert browser.one("#count").text == "Showing 0 of 6 methods and 0 of 34 results."
    browser.click("#filters button[type=reset]")
    assert browser.shown("records") == whole
    assert len(browser.heads("scores-1")) == 5


def test_columns_can_be_hidden(browser: Browser) -> None:
    """A box a column, of each table by itself; columns for few readers are hidden until they are asked for."""
    assert "peak memory" not in browser.heads("records")
    for table, column in (("records", 11), ("ranking", 2)):
        browser.click(f"details:has([data-table={table}]) summary")
        browser.click(f"input[data-table={table}][data-column='{column}']")
    assert "settings" not in browser.heads("records")
    assert browser.heads("ranking") == ["method", "mean rank", "tasks", "seconds to fit", "sees", "source"]
    browser.click("input[data-table=ranking][data-column='2']")
    assert "win rate" in browser.heads("ranking")


def test_theme_follows_the_system_until_it_is_chosen(browser: Browser) -> None:
    """Light or dark as the system is; the button changes that, and the choice is remembered."""
    button = browser.one("#theme")
    assert browser.background() > 0.9
    browser.prefer("dark")
    assert browser.background() < 0.2
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert browser.background() > 0.9
    assert button.get_attribute("aria-pressed") == "false"
    browser.driver.refresh()
    assert browser.background() > 0.9
    browser.prefer("light")
    browser.one("#theme").click()
    assert browser.background() < 0.2


@pytest.mark.parametrize("width", [360, 768, 1920])
def test_page_never_scrolls_sideways(browser: Browser, width: int) -> None:
    """However narrow the screen: what is wider scrolls in a region of its own, and method names stay in sight."""
    browser.resize(width)
    assert browser.run("const page = document.documentElement; return page.scrollWidth - page.clientWidth") == 0
    browser.run("document.querySelector('#records').closest('.scroll').scrollLeft = 400")
    assert browser.run("return document.querySelector('#records').closest('.scroll').scrollLeft") == 400
    region, names = (
        browser.run(f"return document.querySelector('#records'){part}.getBoundingClientRect().x")
        for part in (".closest('.scroll')", ".querySelector('tbody th')")
    )
    assert 0 <= region == names
    texts = "[...document.querySelectorAll('.panel text')].map((text) => text.getBoundingClientRect())"
    assert browser.run(f"return Math.min(...{texts}.map((box) => box.left))") >= 0
    assert browser.run(f"return Math.max(...{texts}.map((box) => box.right))") <= width


def test_everything_can_be_done_with_the_keyboard(browser: Browser) -> None:
    """The first key leads past the top; buttons, boxes, folds and scrolling work, and one sees where one is."""
    browser.one("body").send_keys("\ue004")
    assert browser.focused() == "Skip to the ranking"
    assert browser.run("return document.activeElement.getBoundingClientRect().top") >= 0
    browser.press("\ue007")
    assert browser.run("return document.activeElement.id") == "main"
    browser.run("document.querySelector('#ranking thead button').focus()")
    browser.press(" ")
    assert browser.one("#ranking thead th").get_attribute("aria-sort") == "ascending"
    browser.press("\ue007")
    assert browser.one("#ranking thead th").get_attribute("aria-sort") == "descending"
    browser.press("\ue004")
    assert browser.focused() == "mean rank"
    assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.run("document.querySelector('.columns summary').focus()")
    browser.press("\ue007", "\ue004")
    browser.press(" ")
    assert "mean rank" not in browser.heads("ranking")
    browser.resize(360)
    browser.run("document.querySelector('#records').closest('.scroll').focus()")
    assert browser.focused()
    for _ in range(3):
        browser.press("\ue014")
    moved = "return document.querySelector('#records').closest('.scroll').scrollLeft"
    wait_for(lambda: browser.run(moved) > 0)


def wait_for(condition: Any) -> None:
    """Smooth scrolling and the clipboard take a moment."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(None, 20).until(lambda _: condition())


def test_commands_are_copied(browser: Browser) -> None:
    """The button takes the command to the clipboard and says so, to screen readers too."""
    browser.driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    command = browser.one("#records .command")
    label = command.find_element("css selector", "button").get_attribute("aria-label")
    assert label == "Copy the command of best on an_unknown_zoo/epoch/cv-5x1"
    command.find_element("css selector", "button").click()
    expected = "zoobench run --tasks an_unknown_zoo/epoch/cv-5x1 --methods best"
    wait_for(lambda: browser.run("return document.getElementById('copied').textContent") == f"Copied: {expected}")
    browser.set("method", "")
    browser.one("#filters [name=method]").send_keys("\ue009v")
    assert browser.one("#filters [name=method]").get_attribute("value") == expected


def test_links_lead_to_the_record(browser: Browser) -> None:
    """From a failure or a published score to its row among the results, in sight below the sticky bar."""
    browser.click("a.mark")
    row = browser.one("#records tr:target")
    assert row.find_element("css selector", "th").text == "in_a_paper"
    wait_for(lambda: browser.run("return document.querySelector('tr:target').getBoundingClientRect().top") < 800)


def test_browser_has_nothing_to_complain_of_and_asks_no_host(browser: Browser) -> None:
    """From opening the page to having pressed every button: no message on the console and no request to any host."""
    browser.driver.get_log("browser"), browser.driver.get_log("performance")
    browser.driver.refresh()
    browser.run(
        "document.querySelectorAll('button:not(.copy), summary, input[type=checkbox]').forEach((e) => e.click())"
    )
    assert browser.driver.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.driver.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert browser.address in sent
    assert [address for address in sent if not address.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_contrast_enough(browser: Browser, scheme: str) -> None:
    """Every text that is shown stands out from what is behind it, in both themes."""
    browser.prefer(scheme)
    browser.run("document.querySelectorAll('details').forEach((element) => { element.open = true; })")
    colours = browser.run(FIND_COLOURS)
    assert len(colours) > 200
    assert [c for c in colours if contrast(c[1], c[2]) < LEAST_CONTRAST] == []


def test_page_has_no_fault_of_accessibility(browser: Browser) -> None:
    """None that axe knows, with everything unfolded. Contrast has its own test: axe is unsure where much scrolls."""
    browser.run("document.querySelectorAll('details').forEach((element) => { element.open = true; })")
    browser.run((resources.files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8"))
    settings = "{rules: {'color-contrast': {enabled: false}}}"
    found = browser.driver.execute_async_script(f"axe.run({settings}).then(arguments[0])")
    assert [(fault["id"], fault["help"], fault["nodes"][0]["html"]) for fault in found["violations"]] == []
    assert len(found["passes"]) > 20


def contrast(one: str, other: str) -> float:
    """Of two colours, as WCAG 2 defines it."""
    shades = []
    for colour in (one, other):
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        shades.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
    return max(shades) / min(shades)


def test_page_works_without_scripts_and_on_paper(browser: Browser, tmp_path: Path) -> None:
    """Without scripts all is there but the controls; on paper there are neither controls nor scroll bars."""
    bare = tmp_path / "bare.html"
    bare.write_text(re.sub(r"<script>.*</script>", "", written(records(), tmp_path), flags=re.DOTALL), encoding="utf-8")
    browser.driver.get(bare.as_uri())
    assert not browser.one("#filters").is_displayed()
    assert "settings" in browser.heads("records")
    browser.driver.get(browser.address)
    assert browser.one("#filters").is_displayed()
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not browser.one("#filters").is_displayed()
    assert browser.run("return getComputedStyle(document.querySelector('.scroll')).overflow") == "visible"
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
