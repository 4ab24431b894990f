#!/usr/bin/env bash
# Everything behind the shipped landmark detector, from nothing: people, sets, training, a test set.
#
#     Testing/benchmark/train_detector.sh FOLDER [COARSE] [FINE] [MORE] [LONGER] [FINEST] [SCALE]
#
# COARSE and FINE images are shown in training at 128 and then at 192 px, then MORE at 192 px of twice
# as many people, LONGER of the same, and FINEST at 256 px of half as many people again (default
# 180000, 144000, 220000, 100000, 104000); SCALE divides the number of people and views (default 1,
# 8 for a try). Any stage that is there already is left as it is, and training goes on where it ended,
# so the same command resumes. Processor seconds on one core of a Sapphire Rapids Xeon: a compact
# person 4.4, an image 0.04; training 0.010 an image at 128 px, 0.017 at 192 and 0.030 at 256, making
# images ready included.
set -euo pipefail
folder=$1 coarse=${2:-180000} fine=${3:-144000} more=${4:-220000}
longer=${5:-100000} finest=${6:-104000} scale=${7:-1}
run="${PYTHON:-python} -m XraySynthLib"
part() { echo $((($1 + scale - 1) / scale)); }
mkdir -p "$folder"
cd "$folder"

# People: compact ones show the ends of their volume in tilted views, wide ones do not.
$run generate --output people-compact --count "$(part 40)" --seed 101 --progress none &
compact=$!
$run generate --output people-wide --count "$(part 48)" --seed 102 --preset wide --progress none
$run generate --output people-more --count "$(part 100)" --seed 106 --preset wide --progress none
$run generate --output people-extra --count "$(part 100)" --seed 108 --preset wide --progress none
wait $compact

# Sets: 256 px over 300 mm; 60 and 120 kVp are kept for the test. The same seed splits a folder of
# people in the same way, so nobody is learned from in one set and watched in another.
set_of() {
    local people=$1 name=$2 views=$3
    shift 3
    $run export --subjects "$people" --output "$name" --views "$(part "$views")" --seed 103 \
        --format webdataset --quantity line-integral --no-masks --split 0.9 0.1 0 \
        --shape-px 256 256 --pixel-spacing-mm 1.164 1.164 --kvp 70 80 90 100 110 "$@"
}
set_of people-compact set-compact 48
set_of people-wide set-free 64
set_of people-wide set-standard 32 --poses standard-views
# Little or no pelvis: the lumbar spine, the thighs, the flank.
set_of people-wide set-spine 12 --aim-offset-mm 0 0 170
set_of people-wide set-thighs 12 --aim-offset-mm 0 0 -190
set_of people-wide set-flank 6 --aim-offset-mm 130 0 60
set_of people-more set-more-free 64
set_of people-more set-more-standard 32 --poses standard-views
set_of people-extra set-extra-free 64
set_of people-extra set-extra-standard 32 --poses standard-views
# About the anterior iliac spine, the landmark hardest to find.
for people in wide more extra; do
    set_of "people-$people" "set-$people-iliac" 12 --aim-offset-mm 95 30 50
done

# At first at 128 px, where an image costs half as much.
few=(set-compact set-free set-standard set-spine set-thighs set-flank)
train() {
    $run train landmarks --name pelvis-landmarks "$@"
}
train --images "$coarse" --output run-128 --side-px 128 --data "${few[@]}" --weights 3 5 3 0.5 0.5 0.25
train --images "$fine" --output run-192 --side-px 192 --start run-128/model --learning-rate 1e-3 \
    --data "${few[@]}" --weights 3 5 3 0.5 0.5 0.25
all=("${few[@]}" set-more-free set-more-standard)
train --images "$more" --output run-more --side-px 192 --start run-192/model --learning-rate 1e-3 \
    --data "${all[@]}" --weights 3 5 3 0.5 0.5 0.25 9 5
train --images "$longer" --output run-longer --side-px 192 --start run-more/model \
    --learning-rate 7e-4 --data "${all[@]}" --weights 3 5 3 0.5 0.5 0.25 9 5
extra=(set-extra-free set-extra-standard set-wide-iliac set-more-iliac set-extra-iliac)
train --images "$finest" --output run --side-px 256 --start run-longer/model --learning-rate 1e-3 \
    --data "${all[@]}" "${extra[@]}" --weights 3 5 3 0.5 0.5 0.25 9 5 9 5 1 2 2

# The six people held out, finer, with another C-arm, and spectra, scatter, dose and blur that no
# training image has.
$run generate --output people-held-out --count "$(part 6)" --people held-out --preset wide-full --seed 104
$run export --subjects people-held-out --output set-held-out --views "$(part 48)" --seed 105 \
    --format coco --split 0 0 1 --no-masks --shape-px 768 768 --pixel-spacing-mm 0.39 0.39 \
    --source-to-detector-mm 1200 --source-to-isocenter-mm 650 850 --kvp 60 120 \
    --scatter 0.22 0.35 --photons-per-mm2 1e4 2.9e4 --blur-mm 0.42 0.7
