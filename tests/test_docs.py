"""The examples of README and docs run as they stand."""

import asyncio
import inspect
import re
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from purista import PuristaError

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


def blocks(page: str) -> list[tuple[str, str]]:
    return FENCE.findall((ROOT / page).read_text())


def run_page(page: str) -> dict[str, Any]:
    """Run a page's Python blocks in order; a text block behind one that raises is its message."""
    namespace: dict[str, Any] = {"__name__": f"docs_{Path(page).stem}"}
    found = blocks(page)
    for number, (language, text) in enumerate(found):
        if language != "python":
            continue
        follows = found[number + 1] if number + 1 < len(found) else ("", "")
        if error := error_of(compile(text, page, "exec", dont_inherit=True), namespace):
            assert follows == ("text", f"{error}\n")
    return namespace


def error_of(code: CodeType, namespace: dict[str, Any]) -> PuristaError | None:
    try:
        exec(code, namespace)
    except PuristaError as error:
        return error
    return None


def run_tests_of(page: str, namespace: dict[str, Any], given: dict[str, Any]) -> None:
    for name, value in list(namespace.items()):
        if name.startswith("test_") and inspect.iscoroutinefunction(value):
            wanted = inspect.signature(value).parameters
            asyncio.run(value(**{one: given[one] for one in wanted}))


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    namespace = run_page(page)
    run_tests_of(page, namespace, run_page("README.md"))


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_the_links_of_a_page_lead_somewhere(page: str):
    folder = (ROOT / page).parent
    missing = [
        link for link in LINK.findall((ROOT / page).read_text()) if not (folder / link).exists()
    ]
    assert missing == []


def test_every_page_is_listed_in_the_readme():
    text = (ROOT / "README.md").read_text()
    assert [page for page in PAGES if page != "README.md" and page not in text] == []


def test_the_contract_page_shows_the_example_of_the_repository():
    shown = blocks("docs/contract.md")[0][1]
    example = (ROOT / "examples" / "billing.py").read_text()
    assert squeezed(shown) in squeezed(example.split('"""', 2)[2])


def squeezed(text: str) -> str:
    return re.sub(r"\s+|,(?=\s*\))", "", text)
