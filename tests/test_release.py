"""What a release holds: the package with its weights and domains, nothing else, and not too much of it."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mechfourier import __version__
from mechfourier.errors import MissingExtra, need

ROOT = Path(__file__).resolve().parents[1]
DATA = "mechfourier/data/"
WEIGHTS = {"adder", "calendar", "miras", "one-layer"}
MAX_BYTES = 12_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="needs the build backend: pip install 'mechfourier[dev]'")
    folder = tmp_path_factory.mktemp("dist")
    build = f"from hatchling.build import build_wheel; build_wheel({str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < MAX_BYTES


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    outside = {n for n in names if not n.startswith(("mechfourier/", "mechfourier-"))}
    assert not outside
    package = {n for n in names if n.startswith("mechfourier/")}
    code = {n for n in package if n.endswith((".py", "py.typed"))}
    data = {n for n in package if n.startswith((DATA, "mechfourier/results/fields_0_1.json"))}
    assets = {n for n in package if n.startswith("mechfourier/drawing/assets/")}
    assert package == code | data | assets, package - code - data - assets


def test_the_wheel_holds_every_module_of_the_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "mechfourier").rglob("*.py")}
    assert modules <= names, modules - names


def test_the_source_distribution_holds_all_that_the_wheel_is_made_of(wheel: Path, tmp_path: Path) -> None:
    """A wheel is built from it; the links at the top must not take the place of the folders they point to."""
    from hatchling.builders.sdist import SdistBuilder

    made = next(iter(SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])))
    with tarfile.open(made) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    package = {n for n in zipfile.ZipFile(wheel).namelist() if n.startswith("mechfourier/")}
    assert package <= names, package - names
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "constraints.txt"} <= names
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "mechfourier").rglob("*.py")}
    assert modules <= names and not {n for n in names if n.startswith(("hooks/", "probes/"))}


def test_the_data_are_weights_domains_and_text(wheel: Path) -> None:
    names = [n.removeprefix(DATA) for n in zipfile.ZipFile(wheel).namelist() if n.startswith(DATA)]
    by_folder: dict[str, set[str]] = {}
    for name in names:
        folder, _, file = name.partition("/")
        by_folder.setdefault(folder, set()).add(file)
    assert set(by_folder) == {*WEIGHTS, "domains", "text"}
    for model in WEIGHTS:
        assert {"config.json", "model.safetensors"} <= by_folder[model]
        assert {Path(f).suffix for f in by_folder[model]} <= {".json", ".safetensors", ".md"}
    assert {Path(f).suffix for f in by_folder["domains"]} == {".toml"}
    assert by_folder["text"] == {"held_out.txt"}


def test_the_wheel_has_the_command_and_the_licence(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    (points,) = (n for n in names if n.endswith("entry_points.txt"))
    assert b"mechfourier = mechfourier.__main__:main" in archive.read(points)
    assert any(n.endswith("LICENSE") for n in names)


def test_the_version_is_the_same_everywhere() -> None:
    """In the package, its metadata, the citation and the first heading of the changelog."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = next(line for line in changes.splitlines() if line.startswith("## "))
    assert project["version"] == __version__
    assert f"\nversion: {__version__}\n" in citation and f"name: {project['authors'][0]['name']}" in citation
    date = heading.partition("(")[2].rstrip(")")
    assert heading == f"## {__version__} ({date})" and f'date-released: "{date}"' in citation


def test_the_package_asks_for_nothing_that_only_an_extra_needs() -> None:
    """What ``probe`` needs, and SAELens; Ray, video, browser and server are extras, and each import of theirs
    says in one sentence which."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = {Requirement(line).name for line in project["dependencies"]}
    extras = project["optional-dependencies"]
    own = {
        name: {Requirement(line).name for line in extras[name]} for name in ("ray", "video", "png", "serve")
    }
    assert "sae-lens" in base and not base & set().union(*own.values())
    for name in (*own, "gguf"):
        with pytest.raises(MissingExtra, match=rf"pip install 'mechfourier\[{name}\]'"):
            need("no_such_module", extra=name)
    wanted = re.compile(r'need\("[\w.]+", extra="([\w-]+)"\)')
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "mechfourier").rglob("*.py"))
    assert set(wanted.findall(code)) == {*own, "gguf"} <= set(extras)


def test_probing_imports_no_extra_and_no_dictionaries() -> None:
    script = (
        "import sys\n"
        "for name in ('ray', 'matplotlib', 'playwright', 'starlette', 'uvicorn', 'gguf', 'sae_lens'):\n"
        "    sys.modules[name] = None\n"
        "import mechfourier as mf\n"
        "print(mf.probe(mf.load('calendar'), 'months', n_permutations=99).verdict)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() not in ("", "noise", "not testable")


def _complete(**variables: str) -> str:
    environment = {**os.environ, **variables}
    command = [sys.executable, "-c", "from mechfourier.cli import main; main()"]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT).stdout


def test_bash_gets_a_completion_script() -> None:
    assert "_MECHFOURIER_COMPLETE=complete_bash" in _complete(_MECHFOURIER_COMPLETE="source_bash")


@pytest.mark.parametrize(
    ("words", "expected"), [("mechfourier prob", "probe"), ("mechfourier probe --dom", "--domain")]
)
def test_commands_and_options_complete(words: str, expected: str) -> None:
    position = str(len(words.split()) - 1)
    out = _complete(_MECHFOURIER_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=position)
    assert expected in out.split()


def test_every_dependency_has_a_lower_bound_that_the_constraints_meet() -> None:
    """The least versions are those that the tests ran with (docs/compatibility.md); constraints.txt are the
    newest."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    asked = [Requirement(line) for line in (*project["dependencies"], *extras)]
    pinned = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    for requirement in (each for each in asked if each.name != "mechfourier"):
        assert any(each.operator == ">=" for each in requirement.specifier), (
            f"{requirement} has no lower bound"
        )
        version = pinned.get(requirement.name.lower())
        assert version is None or requirement.specifier.contains(version), f"{requirement}, but {version}"
    missing = {Requirement(line).name.lower() for line in project["dependencies"]} - set(pinned)
    assert not missing, f"constraints.txt lacks {missing}"
