"""How long does an exported page take in a headless Chromium, which has one core?

It needs Chromium and playwright, and npm for onnxruntime-web.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from _common import report
from bench_edge import export, parse_options
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from common.pages import launch_chromium, serve

# The page's own clock: what waits for it outside looks only now and then.
_FINISHED = """n => {
    const status = document.querySelector("#status");
    const said = new RegExp(`^${n} images?(,.*)?\\.$`);
    window.finished = new Promise((resolve) => {
        let start;
        const begin = () => { start = performance.now(); };
        const once = { capture: true, once: true };
        document.querySelector("#files").addEventListener("change", begin, once);
        const watch = (_, observer) => {
            if (start !== undefined && said.test(status.innerText.trim())) {
                observer.disconnect();
                resolve(performance.now() - start);
            }
        };
        const parts = { childList: true, characterData: true, subtree: true };
        new MutationObserver(watch).observe(status, parts);
    });
}"""


def classify(page, paths):
    """Choose files, and return the milliseconds until all have a result."""
    page.evaluate(_FINISHED, len(paths))
    page.set_input_files("#files", [str(path) for path in paths])
    return page.evaluate("() => window.finished")


def measure(folder, paths):
    """Open a page, and classify one image, and then others."""
    with launch_chromium() as browser, serve(folder) as server:
        page = browser.new_page()
        start = time.perf_counter()
        page.goto(server.url)
        page.wait_for_selector("body[data-ready]", timeout=60_000)
        ready = time.perf_counter() - start
        first = classify(page, paths[:1])
        page.click("#clear")
        rest = classify(page, paths[1:])
    return {"start s": ready, "first ms": first, "next ms": rest / (len(paths) - 1)}


def main():
    options = parse_options(__doc__.partition("\n")[0])
    if hasattr(os, "sched_setaffinity"):  # of the browser, too
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for names, _, path, test, _ in export(options, folder, web=True):
            paths = [path.with_name(f"{i}.png") for i in range(min(options.images, len(test)))]
            for i, file in enumerate(paths):
                Image.fromarray(test[i]).resize((224, 224)).save(file)
            rows.append(names | {"MB": path.stat().st_size / 1e6} | measure(path.parent, paths))
            print(rows[-1], flush=True)
    report("web", __doc__.partition("\n")[0], rows)


if __name__ == "__main__":
    main()
