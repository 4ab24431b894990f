#!/usr/bin/env bash
# Everything behind the shipped CT generator, from nothing: people, training.
#
#     Testing/benchmark/train_ct.sh FOLDER
#
# Any stage that is there already is left as it is, and training goes on where it ended, so the same
# command resumes. Afterwards: Testing/benchmark/ct_generator.py.
set -euo pipefail
folder=$1
run="${PYTHON:-python} -m XraySynthLib"
mkdir -p "$folder"
cd "$folder"
$run generate --output people-compact --count 40 --seed 101 --progress none
$run generate --output people-wide --count 48 --seed 102 --preset wide --progress none
$run generate --output people-coarse --count 24 --seed 203 --preset coarse --progress none
$run train ct --data people-compact people-wide people-coarse --output run \
    --refiner-crops 11500
