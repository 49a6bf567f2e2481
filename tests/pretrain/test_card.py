import platform

import torch

import transfer
from transfer.pretrain.card import command, paragraph, table, write_sections


def test_a_card_from_its_sections(tmp_path):
    rows = [("a", 1, ""), ("b", 2.5, "x")]
    write_sections(
        tmp_path / "model",
        ["What it is."],
        {"Training": [command("transfer x")], "Results": [table(("kind", "n", ""), rows)]},
        ("torch",),
    )
    assert (tmp_path / "model" / "CARD.md").read_text() == (
        "# model\n\nWhat it is.\n\n## Training\n\n```\ntransfer x\n```\n\n## Results\n\n"
        "| kind | n |  |\n|---|---|---|\n| a | 1 |  |\n| b | 2.5 | x |\n\n## Versions\n\n"
        f"namm-transfer {transfer.__version__}, python {platform.python_version()},"
        f" torch {torch.__version__}.\n"
    )


def test_paragraphs_have_short_lines_and_whole_words():
    text = paragraph(f"{'some-long words ' * 20}{'x' * 120}")
    assert max(map(len, text.splitlines()[:-1])) <= 100 and text.splitlines()[-1] == "x" * 120
    assert " ".join(text.split()).startswith("some-long words some-long words")
