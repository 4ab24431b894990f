"""Mark the 14 landmarks on the mean by their rules: writes `landmarks.json`.

    python mark_landmarks.py

The left is marked; the right gets the mirror images of the same vertices.
"""

import json
from pathlib import Path

from XraySynthLib.anatomy.landmark_rules import FACING_RULES, HEAD_RULE_TEXT, mark_on_mean
from XraySynthLib.anatomy.landmarks import LANDMARK_NAMES
from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.shape_model import load_shape_model


def main() -> None:
    """Mark and write."""
    partner = load_shape_model().mirrored_vertices
    entries: list[dict[str, object]] = []
    for name in LANDMARK_NAMES:
        place, side = name.split("-")
        left = side == "l"
        if place == "FH":
            bone = Bone.LEFT_FEMUR if left else Bone.RIGHT_FEMUR
            entries.append({"name": name, "bone": int(bone), "rule": HEAD_RULE_TEXT})
            continue
        _, corners, weights = mark_on_mean(FACING_RULES[place])
        entries.append(
            {
                "name": name,
                "bone": int(Bone.LEFT_HEMIPELVIS if left else Bone.RIGHT_HEMIPELVIS),
                "rule": FACING_RULES[place].text,
                "vertices": (corners if left else partner[corners]).tolist(),
                "weights": [round(float(weight), 6) for weight in weights],
            }
        )
    output = Path(__file__).with_name("landmarks.json")
    output.write_text(json.dumps({"landmarks": entries}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
