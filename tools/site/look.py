"""Look at a site in headless Chromium, at the widths of a phone and of a desktop: `python -m tools.site.look [FOLDER]`.

Wrong is a page wider than the window, a wide table whose first column scrolls away, an error in the console, a link
that leads nowhere, and a report of more than 8 MB. Needs Debian's package `chromium`, or its path in CHROMIUM.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket
from bs4 import BeautifulSoup

from helpers.run import paths

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
WIDTHS = (390, 1280)
MOST_BYTES = 8_000_000  # of the report
# What is wider than the window though nothing around it scrolls.
WIDER = """[...document.querySelectorAll("body *")].filter(one => one.getBoundingClientRect().right > innerWidth + 1
  && !one.closest(".scroll, summary.line, pre")).map(one => one.outerHTML.slice(0, 120)).slice(0, 5)"""
UNSTUCK = """[...document.querySelectorAll(".scroll tr > :first-child")]
  .filter(one => getComputedStyle(one).position !== "sticky").length"""


class Tab:
    """One page of a browser, driven over its debugging socket; keeps what the page's console calls an error."""

    def __init__(self, address: str) -> None:
        self._socket, self.errors = websocket.create_connection(address, timeout=60, suppress_origin=True), []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, until: str = "", **given: Any) -> dict[str, Any]:
        """The browser's answer, once it and an event of the name `until` have come."""
        self._socket.send(json.dumps({"id": 1, "method": method, "params": given}))
        answer, came = None, not until
        while answer is None or not came:
            message = json.loads(self._socket.recv())
            answer, came = message.get("result", answer), came or message.get("method") == until
            level = message.get("params", {}).get("entry", {}).get("level")
            if level == "error" or message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(message["params"])[:300])
        return answer

    def open(self, page: Path, width: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", until="Page.loadEventFired", url=page.resolve().as_uri())

    def ask(self, script: str) -> Any:
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")


@contextmanager
def open_tab(profile: Path) -> Iterator[Tab]:
    """A tab of a headless Chromium, which is ended afterwards."""
    words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"]
    process = subprocess.Popen([CHROMIUM, *words, f"--user-data-dir={profile}"], stderr=subprocess.DEVNULL)
    try:
        waits = profile / "DevToolsActivePort"
        for _ in range(600):
            if waits.is_file() and waits.read_text().count("\n"):
                break
            time.sleep(0.1)
        request = f"http://127.0.0.1:{waits.read_text().splitlines()[0]}/json/new"
        with urllib.request.urlopen(urllib.request.Request(request, method="PUT")) as answer:
            tab = Tab(json.load(answer)["webSocketDebuggerUrl"])
        yield tab
    finally:
        process.terminate()
        process.wait(30)


def dead_links(page: Path) -> list[str]:
    """The addresses on a page that lead to no file, or to no place in it; those of the web must be https."""
    found = []
    for tag in BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").select("[href], [src]"):
        address = tag.get("href") or tag.get("src")
        file, _, place = address.partition("#")
        target = (page.parent / file).resolve() if file else page.resolve()
        if not address.startswith(("https://", "data:")) and not target.is_file():
            found.append(address)
        elif place and not re.search(f'id="{re.escape(place)}"', target.read_text(encoding="utf-8")):
            found.append(address)
    return found


def look_at(page: Path, tab: Tab) -> list[str]:
    """What is wrong with a page at the widths of a phone and of a desktop, folded and unfolded, in words."""
    found = []
    for width in WIDTHS:
        tab.open(page, width)
        for how in ("false", "true"):
            tab.ask(f"for (const one of document.querySelectorAll('details')) one.open = {how}")
            if tab.ask("document.documentElement.scrollWidth > innerWidth"):
                found.append(f"{width}: wider than the window: {tab.ask(WIDER)}")
        found += [f"{width}: first cells scroll away"] if tab.ask(UNSTUCK) else []
    found, tab.errors = found + tab.errors, []
    return found


def main(words: list[str]) -> int:
    folder = Path(words[0] if words else paths.ROOT / "build" / "site")
    if not CHROMIUM or not (folder / "report.html").is_file():
        print(f"error: {'no site in ' + str(folder) if CHROMIUM else 'no Chromium is installed'}", file=sys.stderr)
        return 1
    large = (folder / "report.html").stat().st_size > MOST_BYTES
    found = {"report.html": ["more than 8 MB"]} if large else {}
    with tempfile.TemporaryDirectory() as profile, open_tab(Path(profile)) as tab:
        for page in sorted(folder.rglob("*.html")):
            name = page.relative_to(folder).as_posix()
            found[name] = found.get(name, []) + look_at(page, tab) + [f"dead link: {one}" for one in dead_links(page)]
    for name, wrong in found.items():
        print(f"{name}: {'; '.join(wrong) or 'ok'}")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
