"""What the site shows of files beside docs/: README.md as its start, results/, the guides to contributing.

Links in all of them are those of the checkout, so that they work there, too.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
# Where files of the checkout are on the site; those of docs/ are at its root.
BESIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "CITATION.cff")
PAGES = {"README.md": "index.md", **{name: name for name in BESIDE}}
_LINK = re.compile(r"(\]\()([^()#:\s]+)(#[^()\s]*)?\)")


def on_files(files, config):
    """Adds what is not in docs/."""
    shown = {ROOT / source: uri for source, uri in PAGES.items()}
    shown.update(
        (path, path.relative_to(ROOT).as_posix()) for path in (ROOT / "results").rglob("*") if path.is_file()
    )
    for path, uri in sorted(shown.items()):
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turns the links of a checkout's file into those of the site."""
    here = posixpath.dirname(page.file.src_uri)
    source = Path(page.file.abs_src_path).resolve().relative_to(ROOT).as_posix()

    def on_site(match):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        uri = PAGES.get(target, target[len("docs/") :] if target.startswith("docs/") else target)
        return f"{match[1]}{posixpath.relpath(uri, here)}{match[3] or ''})"

    return _LINK.sub(on_site, markdown)
