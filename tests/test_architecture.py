"""Networks of other packages: one record, found by its entry point, and no edit here; a broken one stands in
nobody's way.

Also what holds the rooms apart: no import circle in the package, and no network named outside ``toys``.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import networkx as nx
import pytest

import mechfourier
from mechfourier.errors import UnknownModel, UsageError
from mechfourier.models import architectures
from mechfourier.models.architectures import Architecture, architecture_of, built_in, of_config, of_folder
from mechfourier.models.catalogue import DATA

PACKAGE = Path(mechfourier.__file__).parent
NETWORK = PACKAGE.parent / "examples" / "own_network"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package of ``examples/own_network`` installed in it, as pip installs it."""
    source, target = tmp_path_factory.mktemp("source") / "own_network", tmp_path_factory.mktemp("site")
    shutil.copytree(NETWORK, source)
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target))
    made = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(source)], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    return target


IN_TURN = "import json, sys, command_lines; print(json.dumps([command_lines.run(*words) for words in json.load(sys.stdin)]))"


def several(site: Path, *commands: Sequence[object]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of command lines, in one process of its own that has ``site`` on its path."""
    path = os.pathsep.join([str(PACKAGE.parent), str(PACKAGE.parent / "tests"), str(site)])
    done = subprocess.run(
        [sys.executable, "-c", IN_TURN],
        input=json.dumps([[str(word) for word in words] for words in commands]),
        capture_output=True,
        text=True,
        cwd=site,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return [tuple(each) for each in json.loads(done.stdout)]


def run(site: Path, *arguments: object, code: int = 0) -> tuple[str, str]:
    """Output and errors of one."""
    ((found, out, err),) = several(site, arguments)
    assert found == code, err
    return out, err


def test_a_network_of_another_package_goes_through_the_four_commands(theirs: Path, tmp_path: Path) -> None:
    folder, page = tmp_path / "run", tmp_path / "report.html"
    done = several(
        theirs,
        ("train", "--help"),
        ("train", "mlp-mod", "--p", 11, "--steps", 400, "--out", folder, "--json"),
        ("probe", folder, "--json", "--out", folder),
        ("analyze", folder, "--json", "--out", folder),
        ("analyze", folder, "--place", 2),
        ("report", folder, "--out", page),
        ("analyze", folder, "--json", "--set", "first=2"),
        ("sweep-accuracy", folder),
    )
    assert [code for code, _, _ in done] == [0, 0, 0, 0, 2, 0, 0, 2], [err for _, _, err in done]
    helped, trained, probed, analysed, (_, _, refused), _, top, (_, _, swept) = done
    assert "mlp-mod" in helped[1]
    trained, found, spectrum, top = (json.loads(out) for _, out, _ in (trained, probed, analysed, top))
    assert trained["steps"] == 400 and trained["metrics"]["train_loss"] < 0.1
    assert (found["domain"], found["design"]) == ("mod-11", "operation")  # what it was trained on, unasked
    assert len(spectrum["power"]) == 5 and sum(spectrum["power"]) == pytest.approx(1)
    assert top["power"] == spectrum["power"][:2]
    assert "--place means nothing for the architecture 'mlp-mod'" in refused
    assert "'mlp-mod'; sweep-accuracy takes adder, miras" in swept
    text = page.read_text(encoding="utf-8")
    assert "largest frequencies in W_E" in text and "addition mod 11" in text and "Training" in text


def test_models_lists_it_with_its_title(theirs: Path) -> None:
    rows = {row["name"]: row for row in json.loads(run(theirs, "models", "--json")[0])["models"]}
    assert rows["mlp-mod"]["title"] == "addition mod p in a perceptron" and rows["mlp-mod"]["found"] is None
    _, told = run(theirs, "probe", "mlp-mod", code=1)
    assert "mechfourier train mlp-mod" in told


def _entry_point(site: Path, name: str, value: str, **files: str) -> None:
    """A package installed by hand: its modules, and a .dist-info that says what it adds."""
    for module, text in files.items():
        (site / f"{module}.py").write_text(text)
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{architectures.GROUP}]\n{name} = {value}\n")


RECORD = (
    "from mechfourier.models.architectures import Architecture\nRECORD = Architecture(name={!r}, "
    "title='x'{})\n"
)


BROKEN = (
    ("absent_module:RECORD", "", "ModuleNotFoundError"),
    ("odd_1:RECORD", "import a_library_that_nobody_has", "a_library_that_nobody_has"),
    ("odd_2:RECORD", "raise SystemExit(3)", "SystemExit"),
    ("odd_3:RECORD", "RECORD = {'name': 'odd'}", "is a dict, not an Architecture"),
    ("odd_4:RECORD", RECORD.format("one-layer", ""), "'one-layer' is taken by the package mechfourier"),
    ("odd_5:RECORD", RECORD.format("odd-5", ", train=print"), "its train is <built-in function print>"),
    ("odd_6:RECORD", RECORD.format("odd-6", ", domains='x:y'"), "its domains is 'x:y'"),
    ("odd_7:RECORD", RECORD.format("odd-7", ", domains={'(': 'x:y'}"), "unterminated subpattern"),
)


def test_broken_packages_are_a_sentence_each_and_stop_nothing(tmp_path: Path) -> None:
    for i, (value, text, _) in enumerate(BROKEN):
        _entry_point(tmp_path, f"odd-{i}", value, **{f"odd_{i}": text})
    (_, listed, told), hooks, trained = several(
        tmp_path, ("models",), ("hooks", "one-layer"), ("train", "odd-1")
    )
    assert "calendar" in listed
    lines = told.strip().splitlines()
    assert len(lines) == len(BROKEN)
    for i, (line, (_, _, words)) in enumerate(zip(lines, BROKEN, strict=True)):
        assert (
            line.startswith(f"the architecture 'odd-{i}' of the package odd-{i} cannot be used (")
            and words in line
        )
    assert hooks[0] == 0
    assert trained[0] == 2 and "a_library_that_nobody_has" in trained[2]


def test_a_part_that_cannot_be_imported_is_named_when_it_is_asked_for(tmp_path: Path) -> None:
    parts = (
        ", load='odd_net:nothing', train='nowhere:train', analyze='nowhere.at:all', recognise='odd_net:fails'"
    )
    text = RECORD.format("odd-net", parts) + "def fails(model): raise ValueError('no')\n"
    _entry_point(tmp_path, "odd-net", "odd_net:RECORD", odd_net=text)
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(DATA / "one-layer" / "model.safetensors", folder)
    (folder / "config.json").write_text(json.dumps({"architecture": "odd-net"}))
    saved = tmp_path / "found"  # its recogniser fails: others go on
    hooks, analysed, helped, trained, probed, reported = several(
        tmp_path,
        ("hooks", folder),
        ("analyze", folder),
        ("train", "--help"),
        ("train", "odd-net"),
        ("probe", "calendar", "--domain", "days", "--permutations", 99, "--out", saved),
        ("report", saved, "--out", tmp_path / "page.html"),
    )
    assert [code for code, _, _ in (hooks, analysed, helped, trained, probed, reported)] == [2, 2, 0, 2, 0, 0]
    assert "'odd_net:nothing', which cannot be imported (AttributeError" in hooks[2]
    assert "the architecture 'odd-net' names 'nowhere.at:all' as its analyze" in analysed[2]
    assert "odd-net" not in helped[1]
    assert "'nowhere:train' as its train" in trained[2]


def test_records_are_found_by_config_and_by_model() -> None:
    for name in ("one-layer", "adder", "miras", "calendar"):
        record = of_folder(DATA / name)
        assert record is not None and record.name == name
    assert of_config({"model_type": "qwen3"}) is None
    with pytest.raises(UnknownModel, match="closest: one-layer"):
        of_config({"architecture": "one-layers"})
    assert architecture_of(object()) is None


def test_every_part_of_our_records_is_there() -> None:
    """A dotted path is text to every tool; here it is imported."""
    for record in built_in():
        for part, value in vars(record).items():
            if isinstance(value, str) and ":" in value:
                assert record.part(part) is not None
            elif isinstance(value, dict):
                assert all(record.part(part, key) is not None for key in value)


def test_a_record_of_this_process_needs_no_package() -> None:
    record = Architecture(name="mine", title="mine")
    architectures.register(record)
    assert architectures.named("mine") is record
    with pytest.raises(UsageError, match="taken by a network of mechfourier"):
        architectures.register(Architecture(name="adder", title="mine"))


def _modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _imports(tree: ast.AST, modules: dict[str, Path]) -> Iterator[str]:
    """Modules imported anywhere in a module, inside functions too; what only a type checker sees is left
    out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for other in node.orelse:
                yield from _imports(other, modules)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules else node.module for name in names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            yield from _imports(node, modules)


def test_no_module_imports_itself_by_way_of_others() -> None:
    modules, graph = _modules(), nx.DiGraph()
    for name, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        graph.add_edges_from((name, each) for each in _imports(tree, modules) if each in modules)
    circles = {frozenset(each) for each in nx.strongly_connected_components(graph) if len(each) > 1}
    assert len(graph) > 300
    assert not circles, circles


def test_no_network_is_named_by_its_class_outside_its_folder() -> None:
    rooms = {
        p for p in PACKAGE.rglob("*.py") if p.relative_to(PACKAGE).parts[0] not in ("toys", "figures", "cli")
    }
    told = [path for path in rooms if "mechfourier.toys" in path.read_text(encoding="utf-8")]
    allowed = {
        PACKAGE / "__init__.py",
        PACKAGE / "models" / "architectures.py",
    }  # public names; where the records lie
    assert set(told) <= allowed
