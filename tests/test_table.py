"""Tables that people wrote: every reader of CSV reads them in one way."""

import pytest

from pellucid.errors import BadFile
from pellucid.table import read_csv

FIX = "Its columns are image and label."


def read(tmp_path, text, *wanted, encoding="utf-8"):
    path = tmp_path / "cases.csv"
    path.write_bytes(text.encode(encoding))
    return read_csv(path, "a table of cases", *wanted, fix=FIX)


def test_a_spreadsheet_marks_its_text_and_pads_its_cells(tmp_path):
    found = read(tmp_path, "image, label\r\n a.png , yes \r\n\r\nb.png\r\n", "image", encoding="utf-8-sig")
    assert found.columns == ("image", "label") and found.lines == (2, 4)
    assert found.rows == ({"image": "a.png", "label": "yes"}, {"image": "b.png", "label": ""})


def test_a_line_is_counted_as_in_the_file(tmp_path):
    found = read(tmp_path, 'image,note\na.png,"two\nlines"\nb.png,one\n', "image")
    assert found.lines == (3, 4) and found.rows[0]["note"] == "two\nlines"


def test_empty_cells_at_the_end_are_no_more_cells(tmp_path):
    assert read(tmp_path, "image,label,\na.png,yes,,\n").columns == ("image", "label")


@pytest.mark.parametrize(
    "text,asked,got",
    [
        ("image,label\na.png,left, right\n", "2 cells at most in line 2 of cases.csv", "more"),
        ("image,image\na.png,b.png\n", "each column once", "'image' twice"),
        ("file,label\na.png,yes\n", "a column 'image' in cases.csv, a table of cases", "file, label"),
        ("", "a column 'image'", "nothing"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(tmp_path, text, asked, got):
    with pytest.raises(BadFile) as refused:
        read(tmp_path, text, "image")
    assert asked in refused.value.asked and refused.value.got == got and refused.value.fix


def test_no_file_and_no_text_are_said_so(tmp_path):
    with pytest.raises(BadFile, match="No such file"):
        read_csv(tmp_path / "none.csv", "a table of cases", fix=FIX)
    with pytest.raises(BadFile, match="can't decode"):
        read(tmp_path, "image\nä.png\n", encoding="latin-1")
