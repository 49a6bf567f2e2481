"""Chromium for the tests of pages, where it is installed; nothing is fetched for it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

_WORDS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--no-first-run", "--window-size=1280,900",
)  # fmt: skip


class Browser:
    """One window, and what its pages said on the console."""

    def __init__(self) -> None:
        program, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if not program or not driver:
            pytest.skip("needs chromium and chromium-driver")
        options = webdriver.ChromeOptions()
        options.binary_location = program
        for word in _WORDS:
            options.add_argument(word)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))

    def open(self, path: Path, scheme: str = "light", width: int = 1280) -> None:
        """Open a page and wait until all is drawn."""
        self.told("Emulation.setEmulatedMedia", features=[_preference(scheme)])
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.told("Emulation.setDeviceMetricsOverride", **size)
        self.driver.get(path.resolve().as_uri())
        self.wait()

    def wait(self) -> None:
        """Until all is drawn."""
        drawn = "return document.body.dataset.drawn === 'yes'"
        WebDriverWait(self.driver, 60, 0.05).until(lambda driver: driver.execute_script(drawn))

    def told(self, command: str, **words: Any) -> Any:
        """A command of the browser's own protocol."""
        return self.driver.execute_cdp_cmd(command, words)

    def run(self, script: str, *given: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(f"return {script}", *given)

    def console(self) -> list[str]:
        """What was said since the last time."""
        return [each["message"] for each in self.driver.get_log("browser")]

    def press(self, *keys: str) -> None:
        """Keys, to whatever has the focus."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def texts(self, selector: str) -> list[str]:
        """Of everything that is shown there."""
        return self.run(
            "[...document.querySelectorAll(arguments[0])].map(e => e.innerText)", selector
        )


def _preference(scheme: str) -> dict[str, str]:
    return {"name": "prefers-color-scheme", "value": scheme}
