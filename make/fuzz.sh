#!/usr/bin/env bash
# Installs atheris beside the environment. Where it has no wheel, fuzzing goes on by chance, and says so.
set -euo pipefail
cd "$(dirname "$0")/.."
. make/uv_env.sh
"$uv" pip install -q --target .venv/fuzz --no-deps --require-hashes --only-binary :all: -r requirements/fuzz.lock ||
  echo "atheris could not be installed, its error stands above: fuzzing goes on by chance alone" >&2
