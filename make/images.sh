#!/usr/bin/env bash
# Builds the images; make/images.py says how. What pip is configured to see, the builds see too.
set -euo pipefail
cd "$(dirname "$0")/.."
. make/uv_env.sh
exec .venv/bin/python -m make.images
