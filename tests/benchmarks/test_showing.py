"""What was measured becomes JSON, tables and pictures; those of the documentation fit its JSON."""

import importlib.util
import sys
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import results, tables
from benchmarks.__main__ import main
from benchmarks.measuring import Measured
from benchmarks.picture import FINGERPRINT, draw, fingerprint
from benchmarks.subjects import SUBJECTS, subject_of
from benchmarks.theme import THEMES

DOCS = Path(__file__).parents[2] / "docs"
CONDITIONS = {
    "date": "2026-11-27",
    "others": 0.01,
    "minutes": 19.5,
    "machine": {
        **{"processor": "A processor", "instructions": ["avx2"], "cores": 2, "memory": 2**34, "system": "Linux 6.1"},
        "python": "3.11.7",
    },
    "versions": {"trivit": {"torch": "2.13.0"}},
}


def kept_row(subject, title, turns, needed=None, left_out=None, quality=None):
    """What is kept of a row of these turns."""
    found = subject_of(subject)
    row = next(row for row in found.rows if row.title == title)
    return results.row(Measured(subject, row, turns, turns, needed or {}, left_out or {}, quality or {}), found)


@pytest.fixture(scope="module")
def kept():
    """Two rows of PyTorch, and how cost grows with the batch in Keras: twice as fast as it should from 4 to 16."""
    batches = {1: 0.01, 4: 0.04, 16: 0.32}
    point = "Keras: 224 x 224 pixels, 12 layers, batch {}"
    return {
        **CONDITIONS,
        "rows": [
            kept_row(
                "pytorch",
                "ViT-S/16, batch 8, float32",
                {
                    "trivit": [0.5, 0.4, 0.5],
                    "timm": [0.55, 0.48, 0.75],
                    "transformers 5": [0.45, 0.4, 0.4],
                    "matrix products": [0.4, 0.3, 0.4],
                },
                {"trivit": 10_000_000, "timm": 20_000_000},
                {"onnxruntime": "it has gone"},
            ),
            kept_row("pytorch", "ViT-B/16, batch 1, float32", {"trivit": [2.0] * 3, "timm": [1.0] * 3}),
            *(
                kept_row("growth", point.format(batch), {"Keras": [seconds] * 3}, {"Keras": 1_000_000 * batch})
                for batch, seconds in batches.items()
            ),
            kept_row(
                "token_merging",
                "PyTorch, ViT-S/16, batch 8, merge_tokens(8)",
                {"PyTorch": [0.4] * 3, "PyTorch, without merging": [0.5] * 3},
            ),
            kept_row(
                "token_merging",
                "vit-digits, merge_tokens(8)",
                {"vit-digits": [0.1] * 3, "vit-digits, without merging": [0.1] * 3},
                quality={"same answer": 0.998, "right": 0.99},
            ),
        ],
    }


def test_ratios_are_of_turns_of_one_round():
    assert results.ratios([1.1, 1.2, 3.0], [1.0, 1.0, 2.0]) == [1.15, 1.2, 1.35]


def test_json_holds_all_that_was_kept(kept, tmp_path):
    results.write(tmp_path / "speed.json", kept)
    assert results.read(tmp_path / "speed.json") == kept
    lines = (tmp_path / "speed.json").read_text().splitlines()
    assert sum(line.startswith('  {"subject"') for line in lines) == len(kept["rows"])  # a row a line


def test_a_table_has_times_ratios_limits_and_who_was_left_out(kept):
    table = tables.speeds(tables.of(kept, "pytorch"))
    assert table[0] == ["", "ours", "transformers 5", "timm", "the limit", "rounds"]
    assert table[1][1:4] == ["500 ms", "0.90 (0.85 to 0.95)", "1.20 (1.15 to 1.35)"]
    assert table[1][4].startswith("matrix products: 80 % (147 of 184 GFLOP/s")
    assert table[2][1:] == ["2 s", "-", "0.50 (0.50 to 0.50)", "-", "3"]
    assert tables.memory(tables.of(kept, "pytorch")) == [["", "ours", "timm"], [table[1][0], "10 MB", "20 MB"]]
    assert tables.left_out(kept)[1:] == [["pytorch: ViT-S/16, batch 8, float32", "onnxruntime", "it has gone"]]


def test_a_limit_that_is_no_arithmetic_has_no_rate(kept):
    row = tables.of(kept, "pytorch")[0]
    reading = {
        "limit": {"name": "reading the file", "part": [0.5] * 3},
        "seconds": {**row["seconds"], "reading the file": [1] * 3},
    }
    assert tables.limit_of({**row, **reading}) == "reading the file: 50 %"


def test_a_price_in_answers_stands_beside_the_speed(kept):
    table = tables.speeds(tables.of(kept, "token_merging"))
    assert table[0] == ["", "ours", "without merging", "same answer", "right", "rounds"]
    assert [line[2:5] for line in table[1:]] == [
        ["1.25 (1.25 to 1.25)", "-", "-"],
        ["1.00 (1.00 to 1.00)", "99.8%", "99.0%"],
    ]


def test_the_summary_counts_rows_whose_quartiles_are_on_one_side_of_one(kept):
    assert tables.summary(kept)[1:] == [
        ["PyTorch", "transformers 5", "0.90", "0", "0", "1"],
        ["PyTorch", "timm", "0.85", "1", "0", "1"],
    ]


def test_what_grows_faster_than_the_arithmetic_is_a_surprise(kept):
    rows = [line for line in tables.growth(tables.of(kept, "growth")) if line[0] == "Keras, batch"]
    assert [line[1] for line in rows] == ["1", "4", "16"]
    assert [line[3] for line in rows] == ["1.00", "1.00", "2.00 (a surprise)"]
    assert [line[5] for line in rows] == ["1.00"] * 3


def test_text_and_markdown_say_the_same(kept):
    text = tables.as_text(kept)
    assert "A processor (avx2), 2 cores, 16 GiB" in text
    assert "torch 2.13.0" in text
    assert "other programs had 1 % of the cores' time" in text
    assert "too much" not in text
    assert "had 30 % of the cores' time. That is too much" in tables.as_text({**kept, "others": 0.3})
    markdown = tables.as_markdown(tables.summary(kept))
    assert markdown.splitlines()[2] == "| PyTorch | transformers 5 | 0.90 | 0 | 0 | 1 |"
    assert tables.as_markdown([["only", "a header"]]) == "Not measured."


def test_pictures_are_drawn_for_light_and_dark_pages(kept, tmp_path):
    pytest.importorskip("matplotlib")
    paths = [path for theme in THEMES for path in draw(kept, tmp_path / "speed.json", theme)]
    assert [path.name for path in paths] == [
        f"speed{name}{theme}.png" for theme in ("", "-dark") for name in ("", "-growth", "-token-merging")
    ]
    light, dark = (Image.open(tmp_path / name).convert("RGBA") for name in ("speed.png", "speed-dark.png"))
    assert light.size == dark.size
    assert light.getpixel((0, 0))[3] == 0  # what is behind the picture shows
    assert darkest(light) < darkest(dark)
    assert draw({**kept, "rows": []}, tmp_path / "none.json", THEMES[0]) == []


def darkest(picture):
    """The least brightness of what is drawn."""
    colours = picture.getcolors(maxcolors=picture.width * picture.height)
    return min(sum(pixel[:3]) for _, pixel in colours if pixel[3] > 250)


def test_the_command_draws_what_was_measured_before_and_refuses_what_is_not_there(kept, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    results.write(tmp_path / "speed.json", kept)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--draw", str(tmp_path / "speed.json")])
    main()
    assert "Keras, batch" in capsys.readouterr().out
    assert (tmp_path / "speed-dark.png").exists()
    for arguments, complaint in (
        (["torch"], "there is no subject torch"),
        (["--python", "conda=python"], "there is no environment conda"),
        (["--quick", "--rows", "ViT-H"], "no row of a quick run has ViT-H"),
        (["compilation"], "a whole run has no row of compilation; ask for --long"),
    ):
        monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
        with pytest.raises(SystemExit):
            main()
        assert complaint in capsys.readouterr().err


def test_pictures_of_the_documentation_were_drawn_from_its_json():
    kept = results.read(DOCS / "speed.json")
    drawn = ["", "-growth"]
    if tables.of(kept, "token_merging"):
        drawn.append("-token-merging")
    for path in (DOCS / f"speed{name}{theme}.png" for name in drawn for theme in ("", "-dark")):
        with Image.open(path) as picture:
            assert picture.text[FINGERPRINT] == fingerprint(kept), path


def test_the_page_on_speed_shows_every_subject_that_is_measured():
    spec = importlib.util.spec_from_file_location("speed_hooks", DOCS / "speed_hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = (DOCS / "speed.md").read_text()
    shown = hooks.on_page_markdown(page)
    assert "{{" not in shown
    for row in results.read(DOCS / "speed.json")["rows"]:
        assert row["subject"] == "growth" or f"| {row['title']} |" in shown
    for subject in SUBJECTS:
        assert f"measured {subject} " in page or f"{{{{ {subject} }}}}" in page
    assert hooks.on_page_markdown("no markers") == "no markers"
