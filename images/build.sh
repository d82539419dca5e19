#!/bin/sh
# The steps that the Containerfiles share; it runs while an image is built and stays out of it.
#   build.sh tools             uv, and the writer of the bill of materials, in environments of their own
#   build.sh venv LOCK...      /opt/venv with what the locks hold, by hash, as bytecode
#   build.sh torch BUILD       xgboost and torch into it: cpu, cuda, or none (xgboost alone)
#   build.sh strip             the system without what installs, compiles or grants rights
#   build.sh compile FOLDER    bytecode of our own code
# The secrets `index` (lines NAME=value for uv and pip) and `ca` (certificates) say where packages come
# from; neither they nor the place they name are kept.
set -eu
here=$(dirname "$0")
locks=$here/../requirements
uv=/build/uv/bin/uv
export VIRTUAL_ENV=/opt/venv UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never PYC_INVALIDATION_MODE=UNCHECKED_HASH
[ ! -f /run/secrets/ca ] || export SSL_CERT_FILE=/run/secrets/ca PIP_CERT=/run/secrets/ca
if [ -f /run/secrets/index ]; then
  set -a
  . /run/secrets/index
  set +a
fi

install() { # OPTION...: locks are whole, and hashes fix what is installed: any index may deliver it
  "$uv" pip install -q --no-deps --compile-bytecode --index-strategy unsafe-best-match "$@"
}

tools() {
  python3 -m venv /build/uv
  /build/uv/bin/pip install -q --disable-pip-version-check --require-hashes --only-binary :all: -r "$locks/uv.txt"
  python3 -m venv --without-pip /build/sbom
  VIRTUAL_ENV=/build/sbom install --require-hashes -r "$locks/sbom.lock"
}

venv() {
  python3 -m venv --without-pip /opt/venv
  for lock; do install --require-hashes --build-constraints "$locks/base.lock" -r "$locks/$lock"; done
  printf '#!/bin/sh\nexec python3 -c "from slipway.cli import main; main()" "$@"\n' >/opt/venv/bin/slipway
  chmod 755 /opt/venv/bin/slipway
  trim
}

torch() {
  case $1 in
    none) install --require-hashes -r "$locks/cpu.lock" ;;
    cuda) install --require-hashes -r "$locks/cuda.lock" ;;
    cpu)
      install --require-hashes -r "$locks/cpu.lock"
      release=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' "$locks/cuda.in")
      install "torch==$release+cpu" || install --torch-backend=cpu "torch==$release+cpu" || {
        echo "torch==$release+cpu is neither on your index nor to be had from PyTorch's: name an index that" \
          "has it, or build with TORCH=none (XGBoost alone) or TORCH=cuda (5 GB more)" >&2
        exit 1
      }
      ;;
    *) echo "TORCH is cpu, cuda or none, not '$1'" >&2 && exit 2 ;;
  esac
  trim
}

trim() { # tests of others, and what compilers need: a fifth of the bytes
  site=$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  for package in numpy pandas pyarrow scipy sklearn sqlalchemy xgboost; do
    [ ! -d "$site/$package" ] || find "$site/$package" -type d \( -name tests -o -name include \) -prune -exec rm -rf {} +
  done
}

unlist() { # FILE PACKAGE...: their paragraphs out of dpkg's list
  list=$1
  shift
  awk -v gone=" $* " 'BEGIN { RS = ""; ORS = "\n\n" } !index(gone, " " $2 " ")' "$list" >"$list.new"
  mv "$list.new" "$list"
}

strip() {
  stdlib=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
  site=$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  rm -rf "$stdlib"/ensurepip "$stdlib"/idlelib "$stdlib"/lib2to3 "$stdlib"/test "$stdlib"/tkinter "$stdlib"/turtledemo \
    "$stdlib"/config-* "$site"/pip* "$site"/setuptools* "$site"/wheel* "$site"/pkg_resources /usr/share/python-wheels
  rm -f /usr/local/bin/pip* /usr/local/bin/idle* /usr/local/bin/2to3* /usr/local/bin/pydoc* /usr/local/bin/python*-config
  python3 -m compileall -q --invalidation-mode unchecked-hash "$stdlib"
  # What stays of Debian is listed in /var/lib/dpkg/status: scanners and the bill of materials read it.
  gone="apt libapt-pkg6.0 debian-archive-keyring gpgv perl-base dpkg debconf adduser"
  for package in $gone; do
    ! dpkg -s "$package" >/dev/null 2>&1 || dpkg -L "$package"
  done | sort -u | while read -r file; do
    if [ ! -d "$file" ]; then echo "$file"; fi # links to folders stay, such as /bin
  done >/tmp/gone
  unlist /var/lib/dpkg/status $gone
  rm -rf /etc/apt /var/lib/apt /var/cache/* /var/log/* /var/lib/dpkg/info /usr/share/doc /usr/share/man /usr/share/info \
    /usr/share/locale /usr/lib/apt /usr/share/perl* /root/.cache
  xargs rm -f </tmp/gone
  rm -f /tmp/gone
  find / -xdev -type f -perm /6000 -exec chmod ug-s {} +
  echo 'slipway:x:65532:65532::/tmp:/bin/sh' >>/etc/passwd
  echo 'slipway:x:65532:' >>/etc/group
}

compile() {
  /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash "$1"
}

"$@"
