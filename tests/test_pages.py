"""The report and the site as a reader sees them: in headless Chromium, on a desktop and on a phone.

Skipped where no Chromium is installed (Debian's package `chromium`, or the path in the variable CHROMIUM).
"""

import json
import os
import shutil
import subprocess
import time
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import websocket
from bs4 import BeautifulSoup

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: install chromium, or name it in CHROMIUM")
# What is wider than the window though nothing around it scrolls.
WIDER = """[...document.querySelectorAll("body *")].filter(one => one.getBoundingClientRect().right > innerWidth + 1
  && !one.closest(".scroll, summary.line, pre")).map(one => one.outerHTML.slice(0, 120)).slice(0, 5)"""
UNSTUCK = """[...document.querySelectorAll(".scroll tr > :first-child")]
  .filter(one => getComputedStyle(one).position !== "sticky").length"""


class Tab:
    """One page of a browser, driven over its debugging socket; keeps what the page's console calls an error."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=60, suppress_origin=True)
        self._count, self.errors, self._seen = 0, [], []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **given):
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": given}))
        return self._until(lambda message: message.get("id") == self._count)["result"]

    def _until(self, wanted):
        while True:
            message = json.loads(self._socket.recv())
            self._seen.append(message.get("method"))
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(message["params"]["exceptionDetails"]["text"])
            entry = message.get("params", {}).get("entry", {})
            if entry.get("level") == "error":
                self.errors.append(entry["text"])
            if wanted(message):
                return message

    def open(self, page: Path, width: int, height: int = 900) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=page.resolve().as_uri())
        self._until(lambda message: message.get("method") == "Page.loadEventFired")

    def ask(self, script: str):
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")


@contextmanager
def chromium_tab(profile: Path):
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
        with closing(tab._socket):
            yield tab
    finally:
        process.terminate()
        process.wait(30)


def dead_links(page: Path) -> list[str]:
    """The addresses on a page that lead to no file, or to no place in it; those of the web must be https."""
    found, soups = [], {}
    for tag in BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").select("[href], [src]"):
        address = tag.get("href") or tag.get("src")
        file, _, place = address.partition("#")
        target = (page.parent / file).resolve() if file else page.resolve()
        if address.startswith(("https://", "data:")):
            continue
        if not target.is_file():
            found.append(address)
        elif place and target.suffix == ".html":
            if target not in soups:
                soups[target] = BeautifulSoup(target.read_text(encoding="utf-8"), "html.parser")
            found += [] if soups[target].find(id=place) else [address]
    return found


def look_at(pages: list[Path], profile: Path) -> list[str]:
    """What is wrong with these pages at the widths of a phone and of a desktop, in words."""
    found = []
    with chromium_tab(profile) as tab:
        for page in pages:
            for width in (390, 1280):
                tab.open(page, width)
                over = tab.ask("document.documentElement.scrollWidth > innerWidth")
                tab.ask("for (const one of document.querySelectorAll('details')) one.open = true")
                over = over or tab.ask("document.documentElement.scrollWidth > innerWidth")
                found += [f"{page.name} at {width}: wider than the window: {tab.ask(WIDER)}"] if over else []
                unstuck = tab.ask(UNSTUCK)
                found += [f"{page.name}: {unstuck} first cells scroll away"] if unstuck else []
            found += [f"{page.name}: {error}" for error in tab.errors]
            tab.errors.clear()
    return found
