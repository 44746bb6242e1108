#!/usr/bin/env bash
# Packs what run.sh needs into parts of less than 60 MB: CIFAR-100, the plays, and the golden vectors.
#
#   experiments/accelerator/pack.sh DATA SHARED OUT
#
# DATA is a folder with cifar100 and tiny_shakespeare, SHARED one with the golden folders.
set -euo pipefail
[ $# = 3 ] || { sed -n 2,6p "$0" >&2; exit 2; }
mkdir -p "$3"
rm -f "$3"/data.tar.xz.*
tar -c --transform 's,^golden,shared/golden,' -C "$1" cifar100 tiny_shakespeare \
  -C "$(realpath "$2")" golden golden_tasks golden_compress | xz -T0 -1 | split -b 57M -d - "$3/data.tar.xz."
ls -l "$3"/data.tar.xz.*
