#!/usr/bin/env bash
# Builds .venv from the hashed locks:  make/setup.sh tools | runtime | dev
# Environment: PYTHON (python3), TORCH (auto | cpu | cuda). Interrupted at any point, it can be repeated:
# the stamp that spares the next call the work is written by the Makefile, after success.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
torch=${TORCH:-auto}

fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 2
}

phase() { # TEXT COMMAND...: one line, with the seconds it took
  local text=$1 start=$SECONDS
  shift
  printf '%s ... ' "$text"
  "$@" || fail "'$text' failed; its error stands above. Mend that and run the same command again." \
    "If the package index is out of reach, point pip at yours: pip config set global.index-url URL"
  printf '%d s\n' $((SECONDS - start))
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }

tools() {
  local version
  version=$(version_of "$python")
  case $version in
    3.11 | 3.12 | 3.13) ;;
    *) fail "Slipway needs Python 3.11, 3.12 or 3.13 and '$python' is ${version:-not there};" \
      "name one that you have, for example: make demo PYTHON=python3.12" ;;
  esac
  if [ "$(version_of .venv/bin/python)" != "$version" ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    phase "Creating .venv with Python $version" "$python" -m venv --clear .venv
  fi
  phase "Installing uv" .venv/bin/python -m pip install -q --disable-pip-version-check \
    --require-hashes --only-binary :all: -r requirements/uv.txt
}

download() { # as `uv pip`: gigabytes, so a person sees progress bars; a log file sees one line
  if [ -t 2 ]; then echo && "$uv" pip "$@"; else "$uv" pip "$1" -q "${@:2}"; fi
}

# Hashes fix what is installed, so any configured index may deliver it, as with pip.
hashed() {
  download "$1" $again --require-hashes --index-strategy unsafe-best-match \
    --build-constraints requirements/base.lock "${@:2}"
}

has_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep '^GPU' >/dev/null; }

has_wheel() { # OPTION...: asks, installs nothing; an index that does not answer costs 3 s
  UV_HTTP_CONNECT_TIMEOUT=3 UV_HTTP_TIMEOUT=5 UV_HTTP_RETRIES=0 \
    "$uv" pip install -q --dry-run --reinstall --no-deps "$@" "$cpu_wheel" >/dev/null 2>&1
}

choose_torch() { # sets lock, and for a CPU build cpu_wheel and cpu_index; says what it took and why
  local release why
  release=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' requirements/cuda.in)
  cpu_wheel=torch==$release+cpu cpu_index='' lock=cuda
  case $torch in
    cuda) why='the default build, as TORCH=cuda asks' ;;
    auto | cpu)
      if [ "$torch" = auto ] && has_gpu; then
        why='the CUDA build: an NVIDIA GPU is visible'
      elif [ "$(uname -s)" != Linux ]; then
        why="the default build, which on $(uname -s) has no CUDA in it"
      elif has_wheel; then
        lock=cpu why='the CPU build, from your wheel folder or index'
      elif [ -z "${UV_NO_INDEX:-}" ] && has_wheel --torch-backend=cpu; then
        lock=cpu cpu_index=--torch-backend=cpu why="the CPU build, from PyTorch's index"
      elif [ "$torch" = auto ]; then
        why="the CUDA build, 5 GB larger than need be: no GPU here, but no $cpu_wheel to be had either"
      else
        fail "TORCH=cpu, and no $cpu_wheel for this Python in your wheel folder or index, nor an answer from" \
          "PyTorch's index: put the wheel into a folder and repeat with PIP_FIND_LINKS=FOLDER, or use TORCH=auto"
      fi
      ;;
    *) fail "TORCH is auto, cpu or cuda, not '$torch'" ;;
  esac
  echo "torch $release: $why"
}

begin() {
  again=''
  [ ! -e .venv/.unfinished ] || again=--reinstall # a package cut off half-way looks installed to uv
  touch .venv/.unfinished
}

finish() {
  "$uv" pip check -q || fail "the packages do not fit together: mend requirements/*.in, then run make lock"
  rm .venv/.unfinished
}

runtime() {
  choose_torch
  begin
  rm -f .venv/.ready-*
  phase "Installing the runtime" hashed sync requirements/uv.txt requirements/base.lock "requirements/$lock.lock"
  [ "$lock" = cuda ] || phase "Installing $cpu_wheel" download install --no-deps $cpu_index "$cpu_wheel"
  phase "Installing Slipway itself" "$uv" pip install -q --no-deps --no-build-isolation -e .
  finish
}

dev() {
  begin
  phase "Installing test and lint tools" hashed install -r requirements/dev.lock
  finish
}

if [ "$1" != tools ]; then . make/uv_env.sh; fi
"$1"
