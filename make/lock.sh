#!/usr/bin/env bash
# Writes every lock from its .in file, for Python 3.11 to 3.13 on every platform, with hashes and without
# a word on where packages come from. UPGRADE=1 also moves what the .in files leave open.
set -euo pipefail
cd "$(dirname "$0")/.."
. make/uv_env.sh

resolve() { # NAME OUTPUT OPTION...
  echo "requirements/$1.in -> requirements/$2"
  "$uv" pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate \
    --custom-compile-command 'make lock' ${UPGRADE:+--upgrade} "${@:3}" "requirements/$1.in" -o "requirements/$2"
}

# Each lock is bound to those it is installed with, so that together they are one consistent environment.
bound=(-c requirements/base.lock -c requirements/cuda.lock)
resolve uv uv.txt
resolve base base.lock
resolve cuda cuda.lock -c requirements/base.lock
resolve cpu cpu.lock "${bound[@]}"
resolve dev dev.lock "${bound[@]}"
resolve fuzz fuzz.lock

# The images, one lock a role: what runs in it, at the versions above.
resolve base data.lock "${bound[@]}" --excludes requirements/data.excludes
resolve train train.lock "${bound[@]}" -c requirements/cpu.lock --excludes requirements/train.excludes
resolve serve serve.lock "${bound[@]}" --excludes requirements/serve.excludes
resolve tools tools.lock "${bound[@]}"
resolve sbom sbom.lock
