"""The mutants of `make mutants` fit the project as it is."""

import pytest
from mutants import MUTANTS, PROJECT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_takes_away_is_there_once(mutant: Mutant) -> None:
    assert (PROJECT / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.new != mutant.old
    files = [PROJECT / tests.partition("::")[0] for tests in mutant.tests]
    assert [file for file in files if not file.is_file()] == []
