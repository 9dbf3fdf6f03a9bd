"""The site: a list of runs and a page of each, read-only, with no way out of the folder."""

import shutil
from pathlib import Path

import pytest
from small_run import write_run

from mechfourier.errors import UsageError
from mechfourier.figures.site import find_runs, make_site

pytest.importorskip("starlette")
from starlette.testclient import TestClient

SAVED = Path(__file__).parent / "data" / "results-0.1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served")
    write_run(root / "runs" / "one", checkpoints=3)
    write_run(root / "runs" / "two <b>", checkpoints=3)
    write_run(root / "secret", checkpoints=2)
    (root / "runs" / "out").symlink_to(root / "secret")
    (root / "runs" / "found").mkdir()
    for name in ("probe", "rotate"):
        shutil.copy(SAVED / f"{name}.json", root / "runs" / "found")
    return root / "runs"


@pytest.fixture(scope="module")
def client(folder: Path) -> TestClient:
    return TestClient(make_site([folder]), base_url="http://127.0.0.1")


def test_the_list_compares_the_runs(client: TestClient) -> None:
    text = client.get("/").text
    assert text.count('href="/run/') == 3 and 'src="/plotly.js"' in text
    assert "two &lt;b&gt;" in text and "two <b>" not in text and "Test loss" in text


def test_the_list_says_what_every_result_found(client: TestClient) -> None:
    text = client.get("/").text
    assert "circular (not tested for use): days in calendar" in text
    assert "100.0% of 14 prompts × 6 turns move the answer by exactly δ" in text
    assert "<h2>Results</h2>" in text and "<h2>Runs</h2>" in text


def test_a_run_has_its_report_and_the_library_comes_once(client: TestClient) -> None:
    page = client.get("/run/one")
    assert page.status_code == 200 and "Embedding spectrum" in page.text and len(page.text) < 2e6
    assert "plotly.js v" in client.get("/plotly.js").text[:500]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert client.get("/run/two%20%3Cb%3E").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/run/out",
        "/run/..",
        "/run/..%2fsecret",
        "/run/%2e%2e%2fsecret",
        "/run/one/../../secret",
        "/run//etc/passwd",
        "/secret",
        "/run/one/config.json",
    ],
)
def test_no_address_leads_out(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert "train_fraction" not in answer.text and "secret" not in answer.text
    assert answer.status_code == 404 or answer.url.path == "/"  # the client itself resolves ..


def test_nothing_can_be_written_and_other_hosts_are_refused(client: TestClient) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client.request(method, "/").status_code == 405
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


def test_a_broken_run_is_a_sentence(tmp_path: Path) -> None:
    broken = write_run(tmp_path / "broken", checkpoints=2)
    site = TestClient(make_site([tmp_path]), base_url="http://127.0.0.1")
    (broken / "model.safetensors").write_bytes(b"x")
    answer = site.get("/run/broken")
    assert answer.status_code == 422 and "What happened" in answer.text


def test_folders_are_named_once_and_empty_ones_refused(folder: Path, tmp_path: Path) -> None:
    assert list(find_runs([folder])) == ["found", "one", "two <b>"]
    assert list(find_runs([folder / "one", folder / "one"])) == ["one", "one (2)"]
    with pytest.raises(UsageError, match="holds no run"):
        find_runs([tmp_path])
    with pytest.raises(UsageError, match="is no folder"):
        find_runs([tmp_path / "nowhere"])
