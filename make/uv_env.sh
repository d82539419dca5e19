# Sourced. Lets uv see what pip is configured to see: company index, wheel folder, certificates, proxy.
# pip's settings, whether in pip.conf or PIP_*, are the ones people have; a UV_* variable of theirs wins.

pip_config=$(.venv/bin/python -m pip config list)

pip_option() { # as pip resolves it: environment, then [install], then [global]
  local scope value
  for scope in :env: install global; do
    value=$(sed -n "s/^$scope\.$1='\(.*\)'\$/\1/p" <<<"$pip_config")
    [ -z "$value" ] || { printf '%b' "$value" | xargs; return; } # a list is printed with \n between
  done
}

use() { # NAME VALUE: exported when there is a value and NAME is not set already
  [ -z "$2" ] || [ -n "${!1:-}" ] || export "$1=$2"
}

wheel_folders() { # pip warns of a missing folder, uv would stop
  local place
  for place in $(pip_option find-links); do
    case $place in *://*) echo "$place" ;; *) [ ! -d "$place" ] || echo "$place" ;; esac
  done | paste -sd, -
}

use UV_DEFAULT_INDEX "$(pip_option index-url)"
use UV_INDEX "$(pip_option extra-index-url)"
use UV_NO_INDEX "$(pip_option no-index)"
use UV_FIND_LINKS "$(wheel_folders)"
use UV_INSECURE_HOST "$(pip_option trusted-host)"
use ALL_PROXY "$(pip_option proxy)"
use SSL_CERT_FILE "$(pip_option cert)"
use UV_SYSTEM_CERTS true # as pip does; uv alone trusts only the roots it ships
use UV_PYTHON_DOWNLOADS never
export VIRTUAL_ENV=$PWD/.venv
uv=.venv/bin/uv
