"""Recipe commands in an empty folder."""

from pathlib import Path

import pytest

from tests.commands import Done, Run, run_here


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a verb in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run_verb(verb: str, *arguments: str) -> Done:
        return run_here(verb, arguments, capsys)

    return run_verb
