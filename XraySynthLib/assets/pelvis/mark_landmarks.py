"""Mark the 14 landmarks on the mean by their rules: writes `landmarks.json`.

    python mark_landmarks.py

Extreme points are found on the left; the right starts from their partners.
"""

import json
from pathlib import Path

from XraySynthLib.anatomy.landmark_rules import (
    FACING_RULES,
    HEAD_RULE_TEXT,
    anchor_on_mean,
    facing_point,
    mirrored_direction,
)
from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.shape_model import load_shape_model
from XraySynthLib.data.pelvis import LANDMARK_NAMES


def main() -> None:
    """Mark and write."""
    model = load_shape_model()
    entries: list[dict[str, object]] = []
    for name in LANDMARK_NAMES:
        place, side = name.split("-")
        left = side == "l"
        if place == "FH":
            bone = Bone.LEFT_FEMUR if left else Bone.RIGHT_FEMUR
            entries.append({"name": name, "bone": int(bone), "rule": HEAD_RULE_TEXT})
            continue
        bone = Bone.LEFT_HEMIPELVIS if left else Bone.RIGHT_HEMIPELVIS
        rule = FACING_RULES[place]
        corners, weights = anchor_on_mean(rule)
        anchor = (
            weights
            @ model.mean.vertices_ras_mm[corners if left else model.mirrored_vertices[corners]]
        )
        direction = rule.direction_ras if left else mirrored_direction(rule.direction_ras)
        _, corners, weights = facing_point(model.mean, bone, anchor, direction)
        entries.append(
            {
                "name": name,
                "bone": int(bone),
                "rule": rule.text,
                "direction_ras": [float(value) for value in direction],
                "anchor_ras_mm": [round(float(value), 3) for value in anchor],
                "vertices": corners.tolist(),
                "weights": [round(float(weight), 6) for weight in weights],
            }
        )
    output = Path(__file__).with_name("landmarks.json")
    output.write_text(json.dumps({"landmarks": entries}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
