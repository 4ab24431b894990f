"""Label ids of a subject's CT, and the Hounsfield units of soft tissue.

HU at 120 kVp: Kalender 2011 (Computed Tomography, ch. 1), Aubrey et al. 2014 (muscle 30-80, fat
-190..-30; Acta Physiol 210), Lamba et al. 2014 (bladder 0-15, blood 35-55).

Metal stands for what a voxel would read without the scanner's limit (titanium far more), so that
voxels it fills by 0.6 saturate; `render_ct` cuts at what scanners store.
"""

from enum import IntEnum


class Label(IntEnum):
    """Ids in labels.nii.gz. 1 to 6 are DeepFluoro's."""

    AIR = 0
    LEFT_HEMIPELVIS = 1
    RIGHT_HEMIPELVIS = 2
    VERTEBRAE = 3
    SACRUM = 4
    LEFT_FEMUR = 5
    RIGHT_FEMUR = 6
    COCCYX = 7
    FAT = 10
    MUSCLE = 11
    SKIN = 12
    OTHER_SOFT = 13
    BOWEL = 14
    GAS = 15
    BLADDER = 16
    VESSEL = 17
    IMPLANT = 20
    TABLE = 21


HU = {
    "air": -1000.0,
    "fat": -102.0,
    "muscle": 56.0,
    "skin": 20.0,
    "soft": 38.0,
    "visceral": -70.0,
    "bowel": 32.0,
    "gas": -960.0,
    "urine": 8.0,
    "blood": 45.0,
    "disc": 80.0,
    "plaque": 650.0,
    "metal": 5000.0,
}
