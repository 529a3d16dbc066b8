"""The Markdown files of the checkout, and the blocks of code and commands in them: for test_docs.py."""

import re
import shlex
import string
from pathlib import Path
from typing import List, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "results/**/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"  # names what is no more
)

_BLOCK = re.compile(
    r"(?ms)^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$"
)
_FLAG = re.compile(r"--(?P<name>[\w-]+)(?:\.(?P<key>[\w.]+))?(?:=(?P<value>.*))?")


class Block(NamedTuple):
    """A fenced block; `reason` says why it cannot be run here, if it cannot."""

    language: str
    code: str
    line: int
    reason: str


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> List[Block]:
    text = read(page)
    return [
        Block(language, match[3], text[: match.start(3)].count("\n"), match["reason"] or "")
        for match in _BLOCK.finditer(text)
        if match["language"] == language
    ]


def commands(page: str) -> List[List[str]]:
    """The words of each command in the blocks of shell code, and of each in the text that runs Python."""
    found = []
    for block in blocks(page, "sh"):
        variables = {}
        for line in block.code.replace("\\\n", " ").splitlines():
            line = string.Template(line).safe_substitute(variables)
            words = shlex.split(line, comments=True)
            while words and re.match(r"[A-Za-z_]\w*=", words[0]):
                name, _, value = words.pop(0).partition("=")
                variables[name] = value
            found.append(words)
    text = _BLOCK.sub("", read(page))
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    found += [shlex.split(span) for span in spans if re.match(r"([A-Z_]+=\S+ )*python3? ", span)]
    return [part for words in found for part in split(words, "&&", "--") if part]


def split(words: List[str], *separators: str) -> List[List[str]]:
    parts: List[List[str]] = [[]]
    for word in words:
        if word in separators:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def flags(words: List[str]):
    """(name, key, value) of each --name.key=value."""
    return [match.group("name", "key", "value") for match in map(_FLAG.fullmatch, words) if match]


def defined_flags(script: Path):
    """The names that a file defines flags for, by absl or argparse."""
    text = script.read_text(encoding="utf-8")
    names = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', text)) | set(re.findall(r'"--([\w-]+)"', text))
    return names | {"no" + name for name in re.findall(r'DEFINE_bool\(\s*"(\w+)"', text)}
