"""What the project weighs: lines, tokens a code line, comments, its longest function, its rooms.

    python tests/house.py

Each number stands beside its goal; the exit status is 1 where one is missed.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRODUCT = ("study", "experiments", "benchmarks")
GOALS = {  # most allowed, but of comments, the fewest
    "product lines": 15_000,
    "test lines": 11_000,
    "core lines": 900,
    "tokens a code line": 9.0,
    "comments a 100 code lines": 5.0,
    "code lines of the longest function": 60,
    "most locals of a function": 20,
    "modules flat in study": 6,
}
LAYOUT = {
    tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
    tokenize.ENCODING,
}  # fmt: skip


def sources(*folders: str) -> dict[Path, str]:
    """The Python files of some folders."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return {path: path.read_text(encoding="utf-8") for path in paths}


def lines(*folders: str) -> int:
    """All lines of their files."""
    return sum(len(text.splitlines()) for text in sources(*folders).values())


def docstring_lines(tree: ast.Module) -> set[int]:
    """The lines of expressions that are texts alone."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found.update(range(node.lineno, node.end_lineno + 1))
    return found


def tokens(text: str, docstrings: set[int]) -> tuple[Counter, int]:
    """Tokens of each code line, and how many comments there are."""
    of_line = Counter()
    comments = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments += 1
        elif token.type not in LAYOUT and token.start[0] not in docstrings:
            of_line[token.start[0]] += 1
    return of_line, comments


def measured() -> tuple[dict[str, float], dict[str, str]]:
    """Every number, and where the largest of its kind is."""
    code = count = comments = 0
    longest = crowded = (0, "")
    for path, text in sources(*PRODUCT).items():
        tree = ast.parse(text)
        of_line, remarks = tokens(text, docstring_lines(tree))
        code += len(of_line)
        count += sum(of_line.values())
        comments += remarks
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            where = f"{path.relative_to(ROOT)}: {node.name}"
            size = sum(node.lineno <= line <= node.end_lineno for line in of_line)
            names = {part.id for part in ast.walk(node)
                     if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}  # fmt: skip
            longest = max(longest, (size, where))
            crowded = max(crowded, (len(names), where))
    numbers = {
        "product lines": lines(*PRODUCT),
        "test lines": lines("tests"),
        "core lines": lines("study/core"),
        "tokens a code line": count / code,
        "comments a 100 code lines": 100 * comments / code,
        "code lines of the longest function": longest[0],
        "most locals of a function": crowded[0],
        "modules flat in study": len([*(ROOT / "study").glob("*.py")]),
    }
    longest_of = "code lines of the longest function"
    return numbers, {longest_of: longest[1], "most locals of a function": crowded[1]}


def main() -> int:
    """Print each number beside its goal."""
    numbers, places = measured()
    missed = 0
    for name, value in numbers.items():
        at_least = name.startswith("comments")
        is_met = value >= GOALS[name] if at_least else value <= GOALS[name]
        missed += not is_met
        words = f"{'at least' if at_least else 'at most'} {GOALS[name]:,g}"
        mark = "ok  " if is_met else "MISS"
        print(f"{mark}  {value:>8,.5g}  {name} ({words})  {places.get(name, '')}".rstrip())
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
