"""Directives that take their words from the source, so that documentation cannot fall behind it.

``reasons`` lists every published ``Reason``; ``does-not-show`` collects what each verifier's
docstring says that it leaves open. Both read the syntax tree: nothing of lydite is imported.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

SOURCE = Path(__file__).parents[2] / "src"
MARK = "**Does not show**"


def reasons(source: Path) -> Iterator[tuple[str, str]]:
    """Yield the word and the meaning of each member of ``Reason``."""
    tree = ast.parse((source / "lydite" / "errors" / "reason.py").read_text(encoding="utf-8"))
    body = next(
        node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Reason"
    )
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            doc = after.value.value if _is_text(after) else ""
            yield str(node.value.value), " ".join(doc.split())
        elif isinstance(node, ast.Assign):
            word, meaning = ast.literal_eval(node.value)
            yield word, meaning


def gaps(source: Path) -> Iterator[tuple[str, str]]:
    """Yield the dotted name of each verifier and what it says that it does not show."""
    for path in sorted((source / "lydite").rglob("*.py")):
        module = ".".join(path.relative_to(source).with_suffix("").parts)
        module = module.removesuffix(".__init__")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            last = (ast.get_docstring(node) or "").strip().split("\n\n")[-1]
            if last.startswith(MARK):
                name = module if isinstance(node, ast.Module) else f"{module}.{node.name}"
                yield name.removeprefix("lydite."), " ".join(last.removeprefix(MARK).split())


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


class Words(SphinxDirective):
    """A definition list in MyST, made of pairs of word and meaning."""

    words = staticmethod(reasons)

    def run(self) -> list[nodes.Node]:
        """Parse the list as if it stood on the page."""
        lines: list[str] = []
        for word, meaning in self.words(SOURCE):
            lines += [f"`{word}`", f": {meaning.replace('``', '`')}", ""]
        holder = nodes.container()
        self.state.nested_parse(StringList(lines, source=str(SOURCE)), 0, holder)
        return holder.children


class Gaps(Words):
    """The same, of verifiers and what they leave open."""

    words = staticmethod(gaps)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("reasons", Words)
    app.add_directive("does-not-show", Gaps)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
