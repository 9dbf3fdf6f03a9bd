"""``mechfourier sae`` from the command line, on a small model's folder: every command, its JSON, its page,
and wrong calls."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sae_models import MLP, tiny_model
from typer.testing import CliRunner

from mechfourier.cli.app import app
from mechfourier.errors import MechFourierError
from mechfourier.figures.sae import feature_sections, write_features
from mechfourier.models.checkpoint import save_checkpoint
from mechfourier.sae.features import FeaturePage, Firing

runner = CliRunner()


def call(*arguments: object) -> str:
    result = runner.invoke(app, ["sae", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("cli")
    model = tiny_model()
    save_checkpoint(base / "tiny", {k: v.detach() for k, v in model.weights().items()}, model.cfg.to_dict())
    call(
        "train",
        base / "tiny",
        "--site",
        MLP,
        "--width",
        "2x",
        "-k",
        4,
        "--tokens",
        3200,
        "--batch",
        32,
        "--held-out",
        0.3,
        "--no-control",
        "--out",
        base / "dictionary",
    )
    return base / "tiny", base / "dictionary"


def test_train_and_eval_agree(folders: tuple[Path, Path]) -> None:
    model, dictionary = folders
    found = json.loads(call("eval", dictionary, "--model", model, "--json"))
    made = json.loads((dictionary / "mechfourier.json").read_text())
    assert found["l0"] == pytest.approx(made["held_out"]["l0"]) and found["site"] == MLP
    assert found["loss_recovered"] is not None


def test_score_writes_a_page_with_feature_pages(folders: tuple[Path, Path], tmp_path: Path) -> None:
    model, dictionary = folders
    found = json.loads(
        call(
            "score",
            dictionary,
            "--model",
            model,
            "--domain",
            "mod-23",
            "--permutations",
            99,
            "--pages",
            1,
            "--json",
            "--out",
            tmp_path,
        )
    )
    assert found["n"] == 23 and found["held_out"] and found["families"][0]["what"] == "features"
    page = next(tmp_path.glob("sae-mod-23-*.html")).read_text()
    assert f"Feature {found['scores'][0]['feature']} by mod-23" in page
    assert not re.search(r'<(script|link|img)[^>]*(src|href)="https?:', page)


def test_feature_pages_show_where_a_feature_fires(folders: tuple[Path, Path], tmp_path: Path) -> None:
    model, dictionary = folders
    found = json.loads(call("feature", dictionary, "0,1", "--model", model, "--json", "--out", tmp_path))
    assert [page["feature"] for page in found["features"]] == [0, 1]
    for page in found["features"]:
        strengths = [firing["activation"] for firing in page["firings"]]
        assert strengths == sorted(strengths, reverse=True) and all(x > 0 for x in strengths)
        assert len(page["neighbours"]) == 6 and page["feature"] not in [f for f, _ in page["neighbours"]]


def test_a_feature_is_ablated_and_patched_like_any_direction(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    model, dictionary = folders
    common = [str(model), "--site", MLP, "--domain", "mod-23", "--sae", str(dictionary), "--controls", "0"]
    done = runner.invoke(
        app, ["ablate", *common, "--feature", "3", "--position", "last", "--json"], catch_exceptions=False
    )
    assert done.exit_code == 0 and json.loads(done.stdout)["rank"] == 1
    done = runner.invoke(
        app,
        ["patch", *common, "--feature", "3,5", "--position", "last", "--json", "--out", str(tmp_path)],
        catch_exceptions=False,
    )
    assert done.exit_code == 0 and json.loads(done.stdout)["rank"] == 2
    done = runner.invoke(
        app,
        ["rotate", *common, "--feature", "3,5", "--position", "last", "--json", "--out", str(tmp_path)],
        catch_exceptions=False,
    )
    assert done.exit_code == 0 and json.loads(done.stdout)["ks"] == [1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sae", "train", "MODEL", "--site", "blocks.0.mlp.hook_pots"], "closest"),
        (["sae", "train", "MODEL", "--site", MLP, "--width", "12"], "at least as many features"),
        (["sae", "train", "MODEL", "--site", MLP, "--architecture", "topp"], "topk"),
        (["sae", "train", "MODEL", "--site", MLP, "--text", "nowhere.txt"], "no text"),
        (["sae", "eval", "nowhere"], "closest releases"),
        (["sae", "score", "SAE", "--domain", "mnths"], "months"),
        (["sae", "feature", "SAE", "twelve"], "write 12"),
        (["sae", "feature", "SAE", "999", "--model", "MODEL"], "0 to 47"),
        (["ablate", "MODEL", "--site", MLP, "--domain", "mod-23", "--sae", "SAE"], "--feature"),
        (
            ["rotate", "MODEL", "--site", MLP, "--domain", "mod-23", "--sae", "SAE", "--feature", "3"],
            "two columns",
        ),
    ],
)
def test_wrong_calls_are_one_sentence(
    folders: tuple[Path, Path], tmp_path: Path, arguments: list[str], said: str
) -> None:
    model, dictionary = folders
    given = [{"MODEL": str(model), "SAE": str(dictionary)}.get(a, a) for a in arguments]
    out = [] if given[1] in ("eval",) or given[0] == "ablate" else ["--out", str(tmp_path / "new")]
    with pytest.raises(MechFourierError, match=said):
        runner.invoke(app, [*given, *out], catch_exceptions=False)
    assert not (tmp_path / "new" / "training").exists()


def test_help_does_not_import_torch_or_saelens() -> None:
    code = (
        "import sys, mechfourier.cli.app; print([m for m in ('torch', 'sae_lens', 'datasets') if m in "
        "sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_prompts_are_escaped(tmp_path: Path) -> None:
    page = FeaturePage(
        "d",
        1,
        MLP,
        "m",
        0.1,
        1.0,
        (Firing(1.0, "<script>alert(1)</script>", "&", "'\""),),
        "x",
        ("<b>",),
        (1.0,),
        1,
        0.5,
        ((2, 0.5),),
        (("<i>", 1.0),),
        (("</ul>", -1.0),),
    )
    assert len(feature_sections(page)) == 4
    text = write_features([page], tmp_path).read_text()
    body = text[text.index("<body") :]
    assert "<script>alert(1)" not in text and "<i>" not in body.split("raises")[1][:40]
