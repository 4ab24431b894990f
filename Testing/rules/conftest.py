"""The library's sources, parsed."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import XraySynthLib

LIBRARY = Path(XraySynthLib.__file__).parent


@dataclass(frozen=True)
class Source:
    """One module: its dotted name below XraySynthLib, its path and its syntax tree."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def layer(self) -> str:
        """The first part of its name: geometry, data, ..., cli; "" for the package itself."""
        return self.name.partition(".")[0]

    def nodes(self, *kinds: type) -> Iterator[ast.AST]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))

    def imports(self) -> Iterator[tuple[str, int]]:
        """Dotted names of what it imports, also inside functions, with their lines."""
        for node in self.nodes(ast.Import, ast.ImportFrom):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif node.level:
                yield f"a relative import of {node.module}", node.lineno
            else:
                # `from XraySynthLib import geometry` imports XraySynthLib.geometry
                yield node.module, node.lineno
                if node.module == "XraySynthLib":
                    yield from ((f"XraySynthLib.{a.name}", node.lineno) for a in node.names)


@pytest.fixture(scope="session")
def sources() -> list[Source]:
    """Every module of the library, but for the scripts among its assets."""
    found = []
    for path in sorted(LIBRARY.rglob("*.py")):
        parts = list(path.relative_to(LIBRARY).with_suffix("").parts)
        if parts[-1] == "__init__":
            del parts[-1]
        if parts[:1] != ["assets"]:
            tree = ast.parse(path.read_text("utf-8"), str(path))
            found.append(Source(".".join(parts), path, tree))
    return found
