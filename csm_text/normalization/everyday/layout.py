"""Lines and markup: headings, lists, tables, code fences, links. They become marks where a reader would pause.

A full line was wrapped, so no pause follows it; a short line before a capital ends with a pause.
"""

from __future__ import annotations

import re

FULL = 45  # characters; a longer line may have been wrapped

_NEEDED = re.compile(r"[\n\[\\&]")
_LINK = re.compile(
    r"!?\[([^\[\]\n]{0,200})\]\((?=[^()\s]{0,200}[./#])<?[^()\s]{1,500}(?:\([^()\s]{0,100}\)[^()\s]{0,100})?"
    r"(?:\s\"[^\"\n]{0,100}\")?\)"
)
_NOTE = re.compile(r"\[\^[A-Za-z0-9]{1,10}\]:?|(?<=[.,;:!?\"')])(?:\[\d{1,3}\]){1,5}")
_ESCAPED = re.compile(r"\\([*_#`~\[\]()>+|-])")
_ENTITIES = {"amp": "&", "nbsp": " ", "lt": "<", "gt": ">", "quot": '"', "apos": "'", "#39": "'", "mdash": "—"}
_ENTITY = re.compile(f"&({'|'.join(_ENTITIES)});")
_FENCE = re.compile(r"\s{0,3}(?:```|~~~)[\w+-]{0,20}\s{0,3}")
_HEADING = re.compile(r"\s{0,3}#{1,6}\s+")
_ITEM = re.compile(r"\s{0,20}(?:(?:[-*+•–]\s+(?:\[[ xX]\]\s+)?)|(?=\(?(?:\d{1,3}|[A-Za-z])[.)]\s))")
_QUOTED = re.compile(r"\s{0,3}(?:>\s){1,5}")
_TASK = re.compile(r"\s{0,20}[-*+]\s\[[ xX]\]\s")
_MARKED = re.compile(r"[.,:;!?…][\"'”’)\]*_`~]{0,4}$")


def laid_out(text: str) -> str:
    """The text with its layout as marks."""
    if not _NEEDED.search(text):
        return text
    text = _LINK.sub(r"\1", text)
    text = _NOTE.sub("", text)
    text = _ESCAPED.sub(r"\1", text)
    text = _ENTITY.sub(lambda match: _ENTITIES[match[1]], text)
    return _lines(text.split("\n")) if "\n" in text or _TASK.match(text) else text


def _lines(lines: list[str]) -> str:
    out: list[str] = []
    length = 0  # of the last line, as it was written; 0 after an empty one
    for written in lines:
        line, mark = _line(written.rstrip())
        item = _ITEM.match(line)
        if item:
            line = line[item.end() :]
        if line and length and (item or (length < FULL and line.lstrip("\"'*_“‘( ")[:1].isupper())):
            out[-1] = _closed(out[-1], ",")
        out.append(_closed(line, mark) if line and mark else line)
        length = len(line)
    return "\n".join(out)


def _line(line: str) -> tuple[str, str]:
    """(what is read of a line, the mark that ends it or "")"""
    bare = line.strip()
    if _FENCE.fullmatch(line) or (len(bare) > 2 and set(bare) <= set("-*_= |:")):
        return "", ""
    heading = _HEADING.match(line)
    if heading:
        return line[heading.end() :].rstrip("# "), "."
    if bare.startswith("|") and bare.count("|") > 1:
        return ", ".join(cell.strip() for cell in bare.strip("|").split("|") if cell.strip()), "."
    return _QUOTED.sub("", line, count=1) if bare.startswith(">") else line, ""


def _closed(line: str, mark: str) -> str:
    return line if _MARKED.search(line[-6:]) else f"{line} {mark}"
