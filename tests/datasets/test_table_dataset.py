import numpy as np
from PIL import Image

from dmlm.datasets.table import StudyTable
from dmlm.datasets.table_dataset import TableDataset
from dmlm.reports import Observation, StructuredReport


def test_an_empty_report_gives_way_to_labels_where_there_is_no_text(tmp_path):
    Image.new("L", (40, 40)).save(tmp_path / "a.png")
    Image.new("L", (40, 40)).save(tmp_path / "b.png")
    Image.new("L", (40, 40)).save(tmp_path / "c.png")
    table = StudyTable(
        "own", tmp_path, ("Edema",), ["a.png", "b.png", "c.png"], ["1", "2", "3"], ["1", "2", "3"],
        np.array([[1.0], [1.0], [1.0]], np.float32), text=["", "Unremarkable.", ""].__getitem__,
    )  # fmt: skip
    mass = StructuredReport("3", (Observation("Mass", "present"),), source="text")
    reports = {"1": StructuredReport("1", (), source="text"), "2": StructuredReport("2", (), source="text"), "3": mass}
    data = TableDataset(table, 32, reports=reports)
    assert [data.read(row).report.verdicts for row in range(3)] == [{"Edema": "present"}, {}, {"Mass": "present"}]
    bare = TableDataset(StudyTable(**{**vars(table), "text": None}), 32, reports=reports)
    assert bare.read(1).report.verdicts == {"Edema": "present"}
