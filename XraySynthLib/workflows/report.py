"""A report as one HTML page that needs nothing beside its pictures."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from XraySynthLib.data.formats import atomic_path

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
img { max-width: 100%; height: auto; background: #000; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ddd;
         font-variant-numeric: tabular-nums; }
"""


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """An HTML table of plain text."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>\n"
        for row in rows
    )
    return f"<table>\n<tr>{head}</tr>\n{body}</table>\n"


def picture(source: str, what: str) -> str:
    """An image with a text for those who do not see it."""
    return (
        f'<p><a href="{escape(source)}"><img src="{escape(source)}" alt="{escape(what)}"></a></p>\n'
    )


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>\n"


def heading(text: str) -> str:
    """A heading below the page's."""
    return f"<h2>{escape(text)}</h2>\n"


def write_page(title: str, parts: Sequence[str], path: Path) -> None:
    """Write the page."""
    page = (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style></head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{''.join(parts)}</body>\n</html>\n"
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, "utf-8")
