"""Where a clause of a report ends: how far a negation, a doubt and a side reach."""

import pytest

from dmlm.reports.rules import structure


def states(text):
    return structure(text, "s").verdicts


SHORT = {
    "atelectasis": "Atelectasis",
    "aspiration": "Aspiration Pneumonia",
    "bone": "Fracture",
    "consolidation": "Consolidation",
    "devices": "Support Devices",
    "edema": "Edema",
    "effusion": "Pleural Effusion",
    "emphysema": "Emphysema",
    "heart": "Cardiomegaly",
    "infiltrate": "Infiltration",
    "mass": "Mass",
    "nodule": "Nodule",
    "opacity": "Lung Opacity",
    "pneumonia": "Pneumonia",
    "pneumothorax": "Pneumothorax",
}
SIGNS = {"+": "present", "-": "absent", "?": "uncertain"}


def in_short(written):
    return {SHORT[word[1:]]: SIGNS[word[0]] for word in written.split()}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # a statement of its own ends the list of what is denied: a verb, a change, a place or a side
        ("No effusion and the heart is enlarged.", "-effusion +heart"),
        ("No effusion, edema, or pneumothorax, and the heart is enlarged.", "-effusion -edema -pneumothorax +heart"),
        ("No edema, effusion persists.", "-edema +effusion"),
        ("No pneumothorax, stable cardiomegaly.", "-pneumothorax +heart"),
        ("No pneumothorax, new left pleural effusion.", "-pneumothorax +effusion"),
        ("No pneumothorax or edema, persistent effusion.", "-pneumothorax -edema +effusion"),
        ("No pneumothorax, cardiomegaly unchanged.", "-pneumothorax +heart"),
        ("No acute infiltrate, old rib fractures.", "-infiltrate +bone"),
        ("Cardiomegaly, no edema, bibasilar atelectasis.", "+heart -edema +atelectasis"),
        ("No pneumothorax or pleural effusion, right PICC in place.", "-pneumothorax -effusion +devices"),
        ("No pneumothorax, endotracheal tube in standard position.", "-pneumothorax +devices"),
        # a doubt is no part of what is denied before it
        ("There is no effusion, and pneumonia cannot be excluded.", "-effusion ?pneumonia"),
        ("No pleural effusion is seen and pneumonia cannot be excluded.", "-effusion ?pneumonia"),
        ("No effusion, and pneumonia or aspiration cannot be excluded.", "-effusion ?pneumonia ?aspiration"),
        ("No focal consolidation, and aspiration is possible.", "-consolidation ?aspiration"),
        ("No effusion, pneumonia may be present.", "-effusion ?pneumonia"),
        # of two readings neither is plainly there
        ("Atelectasis is favored over pneumonia.", "?atelectasis ?pneumonia"),
        ("Atelectasis is favoured over pneumonia.", "?atelectasis ?pneumonia"),
        ("Atelectasis is more likely than pneumonia.", "?atelectasis ?pneumonia"),
        ("Edema is less likely than pneumonia.", "?edema ?pneumonia"),
        ("Consolidation rather than atelectasis.", "+consolidation ?atelectasis"),
    ],
)
def test_a_new_statement_is_not_denied(text, said):
    assert states(text) == in_short(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("No effusion, pneumothorax, or new consolidation.", "-effusion -pneumothorax -consolidation"),
        ("No new focal consolidation, pleural effusion or pneumothorax.", "-consolidation -effusion -pneumothorax"),
        ("There is no pneumothorax, effusion, edema.", "-pneumothorax -effusion -edema"),
        ("No pneumothorax, new or worsening consolidation, or edema.", "-pneumothorax -consolidation -edema"),
        ("No pneumothorax, bilateral consolidation or edema.", "-pneumothorax -consolidation -edema"),
        ("No effusion, edema, or pneumothorax is new.", "-effusion -edema -pneumothorax"),
        ("No consolidation, effusion, pneumothorax is identified.", "-consolidation -effusion -pneumothorax"),
        ("No consolidation, effusion has been definitely seen.", "-consolidation -effusion"),
        ("No consolidation, pneumothorax, effusion identified.", "-consolidation -pneumothorax -effusion"),
        ("No pneumothorax, effusion has developed.", "-pneumothorax -effusion"),
        ("No left pneumothorax, right effusion.", "-pneumothorax -effusion"),
        ("No nodule, mass that is suspicious.", "-nodule -mass"),
        ("No edema, effusion or pneumonia is suspected.", "-edema -effusion -pneumonia"),
        ("No pneumothorax, stable.", "-pneumothorax"),
        ("No pneumonia rather than edema.", "-pneumonia -edema"),
        ("Pneumonia is favored.", "?pneumonia"),
    ],
)
def test_a_list_is_denied_to_its_end(text, said):
    assert states(text) == in_short(said)


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("The left lung is clear and the right lung shows consolidation.", {"Consolidation": "right"}),
        ("Left lung shows consolidation and right lung shows edema.", {"Consolidation": "left", "Edema": "right"}),
        ("Right lung is clear but left lung has a large effusion.", {"Pleural Effusion": "left"}),
        ("The left lung is clear and has a nodule.", {"Nodule": "left"}),
        ("The right lung is clear and the left lung has improved with residual edema.", {"Edema": "left"}),
        ("The right hilum is full, which may represent adenopathy.", {"Lymphadenopathy": "right"}),
        ("The right hilum is full, this may represent adenopathy.", {"Lymphadenopathy": "right"}),
        (
            "On the left, there is a small effusion and on the right, there is atelectasis.",
            {"Pleural Effusion": "left", "Atelectasis": "right"},
        ),
        (
            "In the right lung there is edema, while in the left lung there is a nodule.",
            {"Edema": "right", "Nodule": "left"},
        ),
        ("There is a small effusion on the left, and there is edema.", {"Pleural Effusion": "left", "Edema": None}),
        ("In both lungs, there is edema.", {"Edema": "bilateral"}),
    ],
)
def test_a_side_belongs_to_its_clause(text, sides):
    said = structure(text, "s").observations
    assert {item.finding: item.laterality for item in said if item.existence != "absent"} == sides


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # a device after which something is looked for is there, unless it was taken out
        ("No pneumothorax after placement of a right IJ catheter.", "-pneumothorax +devices"),
        ("There is no pneumothorax following insertion of a left subclavian line.", "-pneumothorax +devices"),
        ("No evidence of pneumothorax status post placement of left chest tube.", "-pneumothorax +devices"),
        ("No evidence of pneumothorax after pacemaker placement.", "-pneumothorax +devices"),
        ("No pneumothorax after removal of a right chest tube.", "-pneumothorax -devices"),
        ("No pneumothorax after chest tube removal.", "-pneumothorax -devices"),
        ("The endotracheal tube has been withdrawn and is now 4 cm above the carina.", "+devices"),
        ("The right PICC has been withdrawn, with its tip now in the mid SVC.", "+devices"),
        # "or" after "no change in" is "and"
        ("No interval change in bilateral pleural effusions or cardiomegaly.", "+effusion +heart"),
        ("No significant change in cardiomegaly or bilateral effusions.", "+heart +effusion"),
        ("No effusion or cardiomegaly.", "-effusion -heart"),
        ("Effusion or atelectasis.", "?effusion ?atelectasis"),
    ],
)
def test_wordings_of_intensive_care(text, said):
    found = states(text)
    assert {name: found[name] for name in in_short(said)} == in_short(said)


@pytest.mark.parametrize(
    ("text", "finding", "side", "position"),
    [
        ("This could represent pneumonia in the right clinical setting.", "Pneumonia", None, None),
        (
            "Bibasilar opacities could reflect pneumonia in the right clinical setting.",
            "Pneumonia",
            "bilateral",
            "base",
        ),
        ("Right upper and lower lobe opacities.", "Lung Opacity", "right", "upper and lower lobes"),
        ("Middle and lower lobe consolidation.", "Consolidation", "right", "middle and lower lobes"),
        ("Opacities in the left upper and lower lobes.", "Lung Opacity", "left", "upper and lower lobes"),
        ("Left mid and lower lung opacities.", "Lung Opacity", "left", "middle and lower zones"),
        ("Apart from minimal left basilar atelectasis, the lungs are clear.", "Consolidation", None, None),
        ("Besides scarring at the right apex, the lungs are clear.", "Lung Opacity", None, None),
    ],
)
def test_sides_and_places(text, finding, side, position):
    found = next(item for item in structure(text, "s").observations if item.finding == finding)
    assert (found.laterality, found.position) == (side, position)
