"""The guide's examples do what the guide says."""

import doctest
import re
from pathlib import Path

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "c509.md"


def test_every_example_of_the_guide_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    text = "\n".join(blocks)
    example = doctest.DocTestParser().get_doctest(text, {}, GUIDE.name, str(GUIDE), 0)
    flags = doctest.IGNORE_EXCEPTION_DETAIL | doctest.ELLIPSIS
    said: list[str] = []
    results = doctest.DocTestRunner(optionflags=flags).run(example, out=said.append)
    assert results.failed == 0, "".join(said)
    assert results.attempted > 30
