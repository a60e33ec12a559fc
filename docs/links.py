"""Check the links of the built site, offline: each leads to a file, and each anchor to an element.

python docs/links.py build/docs
"""

import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

LINK = re.compile(r"""<(?:a|img|link|script)\b[^>]*?\b(?:href|src)="([^"]*)\"""")
ELEMENT = re.compile(r"""\bid="([^"]*)\"""")


def broken(site: Path) -> list[str]:
    """The links that lead nowhere, with the page that has them."""
    pages = [page for page in site.rglob("*.html") if "_static" not in page.parts]
    texts = {page: page.read_text(encoding="utf-8") for page in pages}
    names = {page: set(ELEMENT.findall(text)) for page, text in texts.items()}
    found = []
    for page, text in texts.items():
        if page.name == "explorer.html":  # its links are for the folder of figures
            continue
        for link in LINK.findall(text):
            to = urlsplit(link.replace("&amp;", "&"))
            if to.scheme or to.netloc:
                continue
            target = (page.parent / unquote(to.path)).resolve() if to.path else page
            anchor = unquote(to.fragment)
            if not target.is_file() or (anchor and anchor not in names.get(target, {anchor})):
                found.append(f"{page.relative_to(site)}: {link}")
    return found


if __name__ == "__main__":
    dead = broken(Path(sys.argv[1]).resolve())
    print("\n".join(dead) or "every link leads somewhere")
    sys.exit(bool(dead))
