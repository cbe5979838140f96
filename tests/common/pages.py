"""Pages in a headless Chromium, and the servers that they come from."""

import functools
import http.server
import shutil
import threading
from contextlib import contextmanager

import numpy as np
import pytest


@contextmanager
def launch_chromium():
    """Yield the browser; skip the test where there is none."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium on this machine: the page was not opened in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def end_headers(self):
        if self.server.is_shared:
            self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_message(self, *_):
        self.server.asked.append(self.path)


@contextmanager
def serve(folder, *, is_shared=False):
    """Serve a folder on loopback; yields the server, with `asked`, the paths of all requests.

    Other origins may read the files if `is_shared`.
    """
    handler = functools.partial(_Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.asked, server.is_shared = [], is_shared
    server.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def find_contrast(page):
    """Return the least contrast of text with what lies behind it, as WCAG defines it."""
    pairs = page.evaluate(
        """() => [...document.querySelectorAll('body *')]
        .filter(e => e.innerText && e.checkVisibility() && e.children.length === 0)
        .map(e => {
            const rgba = text => (text.match(/[\\d.]+/g) || []).map(Number);
            const layers = [];
            for (let box = e; box; box = box.parentElement) {
                const colour = rgba(getComputedStyle(box).backgroundColor);
                if (colour.length === 3 || colour[3] > 0) layers.push(colour);
                if (colour.length === 3 || colour[3] === 1) break;
            }
            return [rgba(getComputedStyle(e).color), layers];
        })"""
    )
    return min(_ratio(colour[:3], layers) for colour, layers in pairs), len(pairs)


def _ratio(colour, layers):
    behind = np.zeros(3)
    for layer in reversed(layers):
        share = layer[3] if len(layer) == 4 else 1
        behind = share * np.array(layer[:3]) + (1 - share) * behind
    light, dark = sorted((_luminance(np.array(colour)), _luminance(behind)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour):
    linear = colour / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
