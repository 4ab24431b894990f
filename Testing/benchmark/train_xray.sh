#!/usr/bin/env bash
# Everything behind the shipped X-ray samplers, from nothing: people, sets, training.
#
#     Testing/benchmark/train_xray.sh FOLDER [IMAGES] [SCALE]
#
# IMAGES are shown in the training of "anatomy" (default 28000), twice as many in that of "view",
# which begins with the network of "anatomy". SCALE divides the number of people and views (default
# 1, 8 for a try). Any stage that is there already is left as it is, and training goes on where it
# ended, so the same command resumes. Folders people-wide and people-more of train_detector.sh are
# the same people: put them, or links to them, into FOLDER first, and they are not made again.
# CONDITIONS="anatomy" trains that model alone.
set -euo pipefail
folder=$1 images=${2:-28000} scale=${3:-1}
run="${PYTHON:-python} -m XraySynthLib"
part() { echo $((($1 + scale - 1) / scale)); }
mkdir -p "$folder"
cd "$folder"

$run generate --output people-wide --count "$(part 48)" --seed 102 --preset wide --progress none
$run generate --output people-more --count "$(part 100)" --seed 106 --preset wide --progress none

# Line integrals without scatter, blur and collimation, and with next to no noise: what an
# acquisition adds is added to samples, not learned. 256 px over 298 mm, averaged to 128 px in
# training; 60 and 120 kVp are no part of it.
set_of() {
    local people=$1 name=$2 views=$3
    shift 3
    $run export --subjects "$people" --output "$name" --views "$(part "$views")" --seed 107 \
        --format webdataset --quantity line-integral --no-masks --split 0.95 0.05 0 \
        --shape-px 256 256 --pixel-spacing-mm 1.164 1.164 --kvp 70 80 90 100 110 \
        --scatter 0 0 --photons-per-mm2 1e9 1e9 --blur-mm 0 0 --collimated-share 0 "$@"
}
free=(--primary-deg -50 50 --secondary-deg -40 40)
set_of people-wide set-free 40 "${free[@]}"
set_of people-wide set-standard 20 --poses standard-views
set_of people-more set-more-free 40 "${free[@]}"
set_of people-more set-more-standard 20 --poses standard-views

sets=(set-free set-standard set-more-free set-more-standard)
for condition in ${CONDITIONS:-anatomy view}; do
    own=(--subjects people-wide people-more --images "$images")
    if [ "$condition" = view ]; then
        own=(--start run-anatomy/model --learning-rate 0.0008 --warmup-images 1000 --images "$((2 * images))")
    fi
    $run train xray --condition "$condition" --output "run-$condition" \
        --name "pelvis-xray-$condition" --data "${sets[@]}" --weights 2 1 4 2 "${own[@]}"
done
