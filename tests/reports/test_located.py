import pytest

from dmlm.errors import ReportFormatError
from dmlm.reports import from_labels, render
from dmlm.reports.located import with_boxes
from dmlm.reports.schema import Observation


def test_boxes_say_where():
    report = from_labels("s", {"Infiltration": 1, "Cardiomegaly": 1, "Pneumothorax": 0})
    boxes = [
        ("Infiltrate", 0.1, 0.6, 0.4, 0.9),  # left of the image: the patient's right
        ("Infiltrate", 0.6, 0.1, 0.9, 0.3),
        ("Infiltrate", 0.65, 0.1, 0.9, 0.35),
        ("Cardiomegaly", 0.4, 0.5, 0.8, 0.8),
    ]
    located = with_boxes(report, boxes)
    assert located.observations == (
        Observation("Infiltration", "present", "right", "lower zone"),
        Observation("Infiltration", "present", "left", "upper zone"),
        Observation("Cardiomegaly", "present"),
        Observation("Pneumothorax", "absent"),
    )
    assert "Is there infiltration on the right in the lower zone? Yes." in render(located).text
    assert with_boxes(report, []) == report


def test_a_box_of_something_unnamed_makes_it_present():
    located = with_boxes(from_labels("s", {"Pneumothorax": 0}), [("Mass", 0.5, 0.4, 0.6, 0.6)])
    assert located.observations[1] == Observation("Mass", "present", "left", "middle zone")


@pytest.mark.parametrize(
    ("box", "named"),
    [
        (("Mass", 0.5, 0.4, 1.2, 0.6), "not in the image"),
        (("Mass", 0.5, 0.4, 0.5, 0.6), "not in the image"),
        (("Edema", 0.5, 0.4, 0.6, 0.6), "call absent"),
    ],
)
def test_faulty_boxes(box, named):
    with pytest.raises(ReportFormatError, match=named):
        with_boxes(from_labels("s", {"Edema": 0}), [box])
