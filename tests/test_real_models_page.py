"""docs/real-models.md says what benchmarks/results/real_models.json holds."""

from benchmarks import real_models


def test_the_tables_of_the_page_are_those_of_the_results() -> None:
    text, data = real_models.PAGE.read_text(encoding="utf-8"), real_models.read()
    assert set(real_models.MODELS) <= set(data)
    for name in real_models.tables(data):
        assert f"<!-- table {name} -->" in text
    assert real_models.with_tables(text, data) == text
