"""Check the built site: nothing comes from another server, no page is far from the first one."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

MAX_CLICKS = 3
# What sphinx makes, and no page needs to link to.
SPECIAL = {"search.html", "genindex.html", "py-modindex.html"}


class Page(HTMLParser):
    """The pages that a page links to, and what a browser loads for it."""

    def __init__(self, file: Path):
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a":
            self.links.append(values.get("href") or "")
        elif tag != "link":
            self.loaded.append(values.get("src") or "")
        elif values.get("rel") not in ("canonical", "search", "index", "next", "prev"):
            self.loaded.append(values.get("href") or "")


def check(root: Path) -> list[str]:
    """Return what is wrong with a site."""
    first = root / "index.html"
    pages = {
        file: Page(file) for file in sorted(root.rglob("*.html")) if "_static" not in file.parts
    }
    clicks, waiting, wrong = {first: 0}, [first], []
    for file in waiting:  # grows
        for link in pages[file].links:
            parts = urlsplit(link)
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if parts.scheme or parts.netloc or target.suffix != ".html" or target in clicks:
                continue
            if target not in pages:
                wrong.append(f"{file.relative_to(root)}: there is no {link}")
                continue
            clicks[target] = clicks[file] + 1
            waiting.append(target)
    for file, page in pages.items():
        name = file.relative_to(root)
        foreign = [url for url in page.loaded if urlsplit(url).netloc]
        wrong += [f"{name}: is loaded from another server: {url}" for url in foreign]
        if clicks.get(file, MAX_CLICKS + 1) > MAX_CLICKS and name.name not in SPECIAL:
            wrong.append(f"{name}: is not reached in {MAX_CLICKS} clicks")
    return wrong


if __name__ == "__main__":
    found = check(Path(sys.argv[1]).resolve())
    print("\n".join(found) or "The site is sound.")
    sys.exit(bool(found))
