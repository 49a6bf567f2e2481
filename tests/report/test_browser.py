"""The pages in headless Chromium: they sort, filter, draw, and their numbers are the results'."""

import json

import pytest
import reported

selenium = pytest.importorskip("selenium", reason="needs selenium, of the extra `dev`")
pytest.importorskip("vl_convert", reason="needs the extra `report`")

from browsing import Browser  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

from transfer.cli import main  # noqa: E402

ROWS = "#leaderboard tbody tr"
CELL = f"{ROWS} td[data-key='%s']"
#: Marks that are points, in all figures of a section.
POINTS = "document.querySelectorAll(`#${arguments[0]} .mark-symbol.role-mark path`).length"


@pytest.fixture(scope="module")
def browser():
    found = Browser()
    yield found
    found.driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    base = tmp_path_factory.mktemp("pages")
    reported.texts(base / "runs" / "texts")
    reported.episodes(base / "runs" / "episodes")
    reported.evolution(base / "runs" / "evolved")
    for words in (["texts"], ["texts", "episodes", "evolved"]):
        folders = [str(base / "runs" / word) for word in words]
        assert main(["report", *folders, "--out", str(base / f"{len(words)}.html")]) == 0
    return base


@pytest.fixture
def page(browser, pages):
    """The page of one run, as it opens."""
    browser.open(pages / "1.html")
    return browser


@pytest.fixture(scope="module")
def results(pages):
    return json.loads((pages / "runs" / "texts" / "results.json").read_text())


def whole(results):
    return [e for e in results["summary"] if (e["metric"], e["group_by"]) == ("score", "all")]


def values(browser, key):
    return browser.run(
        "[...document.querySelectorAll(arguments[0])].map(e => e.dataset.value)", CELL % key
    )


def test_everything_is_drawn_and_nothing_is_said_or_run_or_fetched(browser, pages):
    browser.open(pages / "3.html")
    drawn = browser.run(
        "Object.fromEntries([...document.querySelectorAll('section')].filter(e => !e.hidden)"
        ".map(e => [e.querySelector('h2').id, e.querySelectorAll('svg').length]))"
    )
    sections = ("held", "forest", "matrix", "heat", "series", "steps", "evolution")
    assert all(drawn[f"h-{name}"] >= 1 for name in sections), drawn
    assert browser.console() == []
    assert browser.run("document.body.dataset.run") is None
    assert browser.run("document.querySelectorAll('img, b b').length") == 0
    assert browser.run("performance.getEntriesByType('resource').length") == 0


def test_the_numbers_are_those_of_the_results(page, results):
    told = {
        (f"{e['task']} · {e['length']:,} tokens", e["policy"], e["budget"]): e
        for e in whole(results)
    }
    lines = page.run(
        f"[...document.querySelectorAll('{ROWS}')].map(row => Object.fromEntries("
        "[...row.cells].map(cell => [cell.dataset.key, [cell.dataset.value, cell.innerText]])))"
    )
    assert len(lines) == len(told) == 28
    for line in lines:
        budget = line["budget"][0]
        entry = told[
            line["task"][0], line["contender"][1].strip(), None if budget is None else float(budget)
        ]
        for key, name, scale in (
            ("mean", "mean", 100), ("base", "delta_vs_full", 100), ("held_mean", "held_mean", 1),
            ("held_peak", "held_peak", 1), ("peak_bytes", "peak_bytes", 1), ("n", "n", 1),
        ):  # fmt: skip
            assert float(line[key][0]) == entry[name] * scale
        shown = [f"{100 * entry[name]:.1f}" for name in ("mean", "low", "high")]
        assert line["mean"][1] == f"{shown[0]} [{shown[1]} {shown[2]}]"


def test_a_head_sorts_and_sorts_back(page):
    score = page.driver.find_element("css selector", "#leaderboard button[data-key='mean']")
    score.click()
    found = [float(value) for value in values(page, "mean")]
    assert found == sorted(found, reverse=True)
    head = "document.querySelector('#leaderboard th[aria-sort]')"
    assert page.run(f"{head}.getAttribute('aria-sort')") == "descending"
    # The same by keyboard: the button has kept the focus.
    page.press(Keys.ENTER)
    assert [float(value) for value in values(page, "mean")] == sorted(found)
    assert page.run(f"{head}.getAttribute('aria-sort')") == "ascending"


def test_filters_take_lines_and_what_is_drawn_of_them(page):
    before = page.run(POINTS, "held")
    # Six who evict, in four figures.
    assert before == 24
    page.driver.find_element("css selector", "#by-policy").send_keys("namm")
    page.wait()
    assert set(page.texts(CELL % "contender")) == {"namm", "namm:recall"}
    assert page.texts("#count") == ["12 of 56 lines"]
    assert page.run(POINTS, "held") == 12
    page.driver.find_element("css selector", "#by-policy").send_keys(Keys.BACKSPACE * 4)
    page.driver.find_element("css selector", "#by-task").send_keys("vt · 1")
    page.wait()
    assert set(page.texts(CELL % "task")) == {"vt · 1,024 tokens"}
    assert page.run(POINTS, "held") == 6
    [chip] = [
        each for each in page.driver.find_elements("css selector", ".chip") if each.text == "h2o"
    ]
    chip.send_keys(Keys.SPACE)
    page.wait()
    assert "h2o" not in page.texts(CELL % "contender") and page.run(POINTS, "held") == 3
    assert chip.get_attribute("aria-pressed") == "false"
    page.driver.find_element("css selector", "#by-policy").send_keys("nobody")
    assert page.texts("#leaderboard") == ["Nothing fits these filters."]
    page.wait()
    assert page.console() == []


def test_another_metric_and_another_axis(page, results):
    page.driver.find_element("css selector", "#by-metric").send_keys("answer")
    page.driver.find_element("css selector", "#by-held").send_keys("KB of the cache, peak")
    page.wait()
    likely = [e["mean"] for e in results["summary"] if e["metric"] == "answer_log_likelihood"]
    assert sorted(map(float, values(page, "mean"))) == sorted(likely)
    said = page.run("document.querySelector('#held').textContent")
    assert "KB of the cache, peak" in said and "answer log likelihood" in said


def test_colours_are_those_of_the_system_until_somebody_says_otherwise(browser, pages):
    def paper():
        return browser.run("getComputedStyle(document.body).backgroundColor")

    browser.open(pages / "1.html", "dark")
    assert paper() == "rgb(15, 19, 26)"
    axis = "getComputedStyle(document.querySelector('#held .role-axis-label text')).fill"
    assert browser.run(axis) == "rgb(160, 169, 186)"
    browser.driver.find_element("css selector", ".theme").click()
    assert paper() == "rgb(255, 255, 255)" and browser.run(axis) == "rgb(91, 100, 117)"
    browser.open(pages / "1.html", "light")
    assert paper() == "rgb(255, 255, 255)"


def test_on_paper_it_is_light_and_without_controls(browser, pages):
    browser.open(pages / "1.html", "dark")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    browser.told("Emulation.setEmulatedMedia", media="print")
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run("getComputedStyle(document.querySelector('.selects')).display") == "none"
    browser.told("Emulation.setEmulatedMedia", media="")


def test_an_item_opens_by_keyboard_and_shows_replies_as_text(page):
    first = page.driver.find_element("css selector", "#items tbody button")
    page.run("arguments[0].focus()", first)
    page.press(Keys.ENTER)
    assert first.get_attribute("aria-expanded") == "true"
    replies = page.run("[...document.querySelectorAll('#items td.reply')].map(e => e.textContent)")
    assert f"{reported.NASTY} 0" in replies
    assert f"Right: {reported.NASTY} | 42" in page.run(
        "[...document.querySelectorAll('#items .inside p')].map(e => e.textContent)"
    )
    page.driver.find_element("css selector", "#find").send_keys("what is 2")
    assert len(page.texts("#items tr.item")) == 1
    assert page.run("document.body.dataset.run") is None and page.console() == []


def test_keys_reach_the_results_first(page):
    page.press(Keys.TAB)
    assert page.driver.switch_to.active_element.text == "Skip to the results"


def test_a_telephone_need_not_be_pushed_sideways(browser, pages):
    browser.open(pages / "3.html", width=380)
    assert browser.run("document.documentElement.scrollWidth") <= 380


def test_a_text_goes_through_time_and_heads(browser, tmp_path):
    path = tmp_path / "kept.html"
    words = ["--model", "llama-recall", "--length", "96", "--budget", "16", "--out", str(path)]
    assert main(["inspect", *words]) == 0
    browser.open(path)
    told = "Number(document.getElementById('held').dataset.mean)"
    assert browser.run(told) == 16
    slider = browser.driver.find_element("css selector", "#time")
    slider.send_keys(Keys.HOME)
    assert browser.run(told) == 32
    assert "before the first update: 32 tokens came" in browser.texts("#held")[0]
    slider.send_keys(Keys.END)
    browser.driver.find_element("css selector", "#layer").send_keys("1")
    browser.driver.find_element("css selector", "#head").send_keys("0")
    held = "[...document.querySelectorAll('.text span')].map(e => Number(e.dataset.held))"
    assert sum(browser.run(held)) == 16 and set(browser.run(held)) == {0, 1}
    browser.run("document.querySelector('.text').focus()")
    browser.press(Keys.ARROW_RIGHT)
    [tip] = browser.texts("#tip")
    assert tip.startswith('" begin", token 0\nage 96 tokens, held by ')
    assert browser.console() == []
