"""A page in headless Chromium, as a person uses it: what it shows, the pointer, keys and files.

One browser serves all tests of a process. It notes whatever a page may not do: errors, messages on
the console, violations of the page's policy, and requests to anything but the page itself.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.interaction import POINTER_MOUSE
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

LONGEST = 60.0  # seconds to wait for what a page should show at once; the machine may be busy
_FLAGS = (
    *("--headless=new", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic", "--disable-extensions"),
    *("--disable-dev-shm-usage", "--force-color-profile=srgb", "--hide-scrollbars"),
)
# Runs before the scripts of a page.
_WITNESS = """
window.troubles = [];
addEventListener("error", (event) => troubles.push(`error: ${event.message}`));
addEventListener("unhandledrejection", (event) => troubles.push(`rejected: ${event.reason}`));
addEventListener("securitypolicyviolation",
  (event) => troubles.push(`policy: ${event.violatedDirective} ${event.blockedURI}`));
"""


def programs() -> tuple[str, str]:
    """Paths of Chromium and its driver; skips the test without them, and fails it in CI."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    driver = shutil.which("chromedriver")
    if chromium and driver:
        return chromium, driver
    why = "Chromium or chromedriver is missing; install them (Debian: chromium, chromium-driver)"
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the window."""

    left: float
    top: float
    width: float
    height: float


class Shown:
    """A browser window with a page.

    Args:
        downloads: Folder for files that the page saves.
    """

    def __init__(self, downloads: Path) -> None:
        chromium, driver = programs()
        options = Options()
        options.binary_location = chromium
        for flag in _FLAGS:
            options.add_argument(flag)
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            options.add_argument("--no-sandbox")  # Chromium has no sandbox for root
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        options.add_experimental_option(
            "prefs",
            {"download.default_directory": str(downloads), "download.prompt_for_download": False},
        )
        self.downloads = downloads
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _WITNESS})
        self.asked = 0
        self.size, self.theme = (0, 0, 1.0), "light"
        self.resize(1280, 900)

    def quit(self) -> None:
        """Close the browser."""
        self.driver.quit()

    # The window

    def resize(self, width: int, height: int, ratio: float = 1) -> None:
        """Give the page another size, in CSS pixels of `ratio` pixels of the screen."""
        if self.size == (width, height, ratio):
            return
        self.size = width, height, ratio
        size = {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.settle()

    def prefer(self, theme: str) -> None:
        """Tell pages that the system is "dark" or "light"."""
        if self.theme == theme:
            return
        self.theme = theme
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.settle()

    def settle(self) -> None:
        """Wait until what is due has been drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0];"
            "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 0)));"
        )

    def run(self, script: str, *given: Any) -> Any:
        """What a script returns in the page."""
        return self.driver.execute_script(script, *given)

    def run_async(self, expression: str, *given: Any) -> Any:
        """The value of an expression that may be a promise; `given` are `a[0]`, `a[1]` ..."""
        found = self.driver.execute_async_script(
            "const a = [...arguments], done = a.pop();"
            f"Promise.resolve().then(() => ({expression}))"
            ".then((value) => done({value}), (error) => done({error: String(error)}));",
            *given,
        )
        assert "error" not in found, found["error"]
        return found.get("value")

    # The page and its view

    def open(self, page: Path, **view: Any) -> None:
        """Open a page at a view; one that is open is not loaded again."""
        address = page.as_uri()
        if self.driver.current_url.partition("#")[0] != address:
            self.driver.get(f"{address}#{urlencode(view)}")
            self.wait(lambda: self.drawn() > 0)
        else:
            self.view(**view)
        self.settle()

    def view(self, **view: Any) -> None:
        """Show a view by its address; what is not named is as at first."""
        self.asked += 1
        text = urlencode({**view, "asked": self.asked})  # differs from any other
        self.redraws(lambda: self.run("location.hash = arguments[0]", text))

    def drawn(self) -> int:
        """How often the page has drawn a view."""
        return int(self.run("return Number(document.documentElement.dataset.drawn || 0)"))

    def redraws(self, action: Callable[[], Any]) -> None:
        """Do something that changes the view, and wait for it."""
        before = self.drawn()
        action()
        self.wait(lambda: self.drawn() > before)
        self.settle()

    def wait(self, ready: Callable[[], Any], seconds: float = LONGEST) -> Any:
        """What `ready` returns once it is true."""
        end = time.monotonic() + seconds
        while not (found := ready()):
            if time.monotonic() > end:
                state = self.run("return document.getElementById('state')?.textContent")
                raise AssertionError(f"not shown after {seconds} s; the page says: {state}")
            time.sleep(0.01)
        return found

    def text(self, css: str) -> str:
        """Text of an element as it is shown."""
        return str(self.run("return document.querySelector(arguments[0]).innerText", css))

    def caption(self, picture: str) -> str:
        """Caption of a picture."""
        return self.text(f"#{picture}-caption")

    def element(self, css: str) -> Any:
        """An element of the page."""
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def choose(self, css: str, value: str) -> None:
        """Choose from a list what is not chosen yet."""
        assert self.element(css).get_property("value") != value
        self.redraws(lambda: Select(self.element(css)).select_by_value(value))

    def options(self, css: str) -> list[str]:
        """Texts of a list."""
        script = "return [...document.querySelector(arguments[0]).options].map((o) => o.text)"
        return list(self.run(script, css))

    def slide(self, css: str, value: int) -> None:
        """Move a slider by keys, from where it is."""
        slider = self.element(css)
        now = int(slider.get_property("value"))
        if value != now:
            keys = (Keys.ARROW_RIGHT if value > now else Keys.ARROW_LEFT) * abs(value - now)
            self.redraws(lambda: slider.send_keys(keys))
        assert int(slider.get_property("value")) == value

    # Keys

    def press(self, *keys: str) -> None:
        """Press keys one after the other, wherever the focus is."""
        builder = ActionBuilder(self.driver, duration=0)
        for key in keys:
            builder.key_action.send_keys(key)
        builder.perform()

    def focused(self) -> dict[str, Any]:
        """The element that has the focus: its tag, id, label and outline."""
        return dict(
            self.run(
                """
                const here = document.activeElement, style = getComputedStyle(here);
                const box = here.getBoundingClientRect();
                return {
                  tag: here.tagName.toLowerCase(), id: here.id, text: here.textContent.slice(0, 40),
                  picture: here.closest(".picture")?.id || "",
                  outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
                  colour: style.outlineColor, left: box.left, top: box.top, right: box.right,
                  bottom: box.bottom,
                };
                """
            )
        )

    # Pictures

    def plot(self, picture: str) -> Box:
        """Where the axes of a picture enclose its plot, once it is scrolled into view."""
        found = self.run(
            """
            const over = document.querySelector(`#${arguments[0]} .u-over`);
            over.scrollIntoView({block: "center", behavior: "instant"});
            const box = over.getBoundingClientRect();
            return [box.left, box.top, box.width, box.height];
            """,
            picture,
        )
        return Box(*map(float, found))

    def hover(self, picture: str, left: float, top: float) -> str:
        """Move the pointer to a place of a plot; the tooltip's text, "" without one."""
        self._point(picture, [(left, top)])
        return self.tooltip()

    def tooltip(self) -> str:
        """What the tooltip says, "" while there is none."""
        return self.text("#tooltip") if self.element("#tooltip").is_displayed() else ""

    def click(self, picture: str, left: float, top: float) -> None:
        """Click at a place of a plot."""
        self.redraws(lambda: self._point(picture, [(left, top)], press=True))

    def drag(self, picture: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Draw a box in a plot, from one corner to the other."""
        self.redraws(lambda: self._point(picture, [start, end], press=True))

    def _point(
        self, picture: str, places: Sequence[tuple[float, float]], press: bool = False
    ) -> None:
        box = self.plot(picture)
        builder = ActionBuilder(self.driver, mouse=PointerInput(POINTER_MOUSE, "mouse"), duration=0)
        pointer = builder.pointer_action
        (left, top), *further = places
        # A pointer that jumps onto its target sends no move over it.
        for shift in (1, 0):
            pointer.move_to_location(round(box.left + left) + shift, round(box.top + top))
        if press:
            pointer.pointer_down()
        for left, top in further:
            pointer.move_to_location(round(box.left + left) - 2, round(box.top + top) - 2)
            pointer.move_to_location(round(box.left + left), round(box.top + top))
        if press:
            pointer.pointer_up()
        builder.perform()

    def colours(self, picture: str, places: Iterable[tuple[float, float]]) -> list[list[int]]:
        """Red, green, blue and opacity of a plot at some places of it."""
        return list(
            self.run(
                """
                const [picture, places] = arguments;
                const canvas = document.querySelector(`#${picture} .uplot canvas`);
                const over = document.querySelector(`#${picture} .u-over`).getBoundingClientRect();
                const box = canvas.getBoundingClientRect();
                // a copy: reading pixels may move the picture itself out of the graphics memory
                const copy = new OffscreenCanvas(canvas.width, canvas.height);
                const context = copy.getContext("2d", {willReadFrequently: true});
                context.drawImage(canvas, 0, 0);
                const from = [over.left - box.left, over.top - box.top];
                return places.map(([left, top]) => [...context.getImageData(
                  Math.floor(from[0] + left), Math.floor(from[1] + top), 1, 1,
                ).data]);
                """,
                picture,
                [[float(left), float(top)] for left, top in places],
            )
        )

    def column(self, picture: str, left: float) -> np.ndarray:
        """Colours of a plot from top to bottom at a horizontal place: [pixel, channel]."""
        height = int(self.plot(picture).height)
        return np.array(self.colours(picture, [(left, top) for top in range(height)]))

    def legend_ramp(self, picture: str) -> np.ndarray:
        """Colours of the strip in a legend, from its start to its end: [pixel, channel]."""
        found = self.run(
            """
            const strip = document.querySelector(`#${arguments[0]} .legend canvas`);
            const data = strip.getContext("2d").getImageData(0, 5, strip.width, 1).data;
            return [...data];
            """,
            picture,
        )
        return np.array(found).reshape(-1, 4)

    # Numbers

    def table(self, picture: str) -> pd.DataFrame:
        """The table of a picture as text, all its pages."""
        found = self.run(
            """
            const details = document.querySelector(`#${arguments[0]} details`);
            if (!details.open) details.querySelector("summary").click();
            return new Promise((done) => setTimeout(() => {
              const rows = [];
              for (;;) {
                for (const row of details.querySelectorAll("tbody tr")) {
                  rows.push([...row.cells].map((cell) => cell.textContent));
                }
                const on = details.querySelectorAll(".pages button")[1];
                if (!on || on.disabled) break;
                on.click();
              }
              const names = [...details.querySelectorAll("thead th")];
              details.open = false;
              done({names: names.map((cell) => cell.textContent), rows});
            }, 0));
            """,
            picture,
        )
        return pd.DataFrame(found["rows"], columns=found["names"])

    def csv(self, picture: str) -> Path:
        """Press the button that saves a picture's numbers; the file that arrives."""
        path = self.downloads / f"{picture}.csv"
        path.unlink(missing_ok=True)
        button = self.element(f"#{picture} button.csv")
        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", button)
        button.click()
        self.wait(path.exists)
        return path

    def csv_table(self, picture: str, **how: Any) -> pd.DataFrame:
        """The numbers of a picture as saved, exactly as written."""
        text = self.csv(picture).read_text(encoding="utf-8")
        return pd.read_csv(io.StringIO(text), **how)

    # What may not happen

    def troubles(self, server: str = "file:") -> list[str]:
        """Errors, console messages, policy violations and requests since the last call.

        Args:
            server: Start of the addresses that a page may ask for.
        """
        found = list(self.run("return (window.troubles || []).splice(0)"))
        found += [f"console: {entry['message']}" for entry in self.driver.get_log("browser")]
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                address = message["params"]["request"]["url"]
                if not address.startswith((server, "file:", "blob:", "data:")):
                    found.append(f"request: {address}")
        return found


def as_numbers(texts: pd.Series) -> np.ndarray:
    """Numbers from texts of a table on the page."""
    plain = texts.str.replace("−", "-", regex=False)
    plain = plain.replace({"none": "nan", "∞": "inf", "-∞": "-inf"})
    return plain.astype("float64").to_numpy()
