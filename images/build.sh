#!/bin/sh
# The steps of the build stages; whatever they need and a task does not stays in those stages.
# Secrets, all optional: ca (certificates of the package index), pip (pip.conf), uv (uv.toml). Mounted, never copied.
set -eu
secrets=/run/secrets
[ ! -s "$secrets/ca" ] || export SSL_CERT_FILE="$secrets/ca" PIP_CERT="$secrets/ca" REQUESTS_CA_BUNDLE="$secrets/ca"
[ ! -s "$secrets/pip" ] || export PIP_CONFIG_FILE="$secrets/pip"
[ ! -s "$secrets/uv" ] || export UV_CONFIG_FILE="$secrets/uv"
export VIRTUAL_ENV=/opt/custody
tools=/build/tools/bin
install() { "$tools/uv" pip install --quiet "$@"; }

case $1 in
  tools)
    python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "the base image must have Python 3.11")'
    python3 -c 'import ensurepip, venv' || { echo "the base image must have the modules venv and ensurepip" >&2; exit 1; }
    python3 -m venv --without-pip /build/tools
    "$tools/python3" -m ensurepip > /dev/null  # by itself: venv would not say why it failed
    "$tools/pip3" install --quiet --require-hashes -r /build/locks/build.txt
    ;;
  libraries)
    python3 -m venv --without-pip "$VIRTUAL_ENV"
    # A library that comes as source is built with the locked setuptools, not with what an index has today.
    awk '/^setuptools==/ {on = 1} on {print} on && !/\\$/ {exit}' /build/locks/build.txt > /build/setuptools.txt
    install --require-hashes -r /build/setuptools.txt
    install --require-hashes --no-build-isolation -r "/build/locks/$2.txt"
    # Complete as it is, and without what an override leaves out.
    [ -z "$3" ] || install --require-hashes --no-deps -r "/build/locks/with-$3.txt"
    # A task needs KFP's executor and artifact types alone; they need no other package.
    install --require-hashes --no-deps -r /build/locks/kfp.txt
    # Some libraries name setuptools as a requirement; none of them uses it once it is installed.
    "$tools/uv" pip uninstall --quiet setuptools
    python3 /build/assemble.py "$VIRTUAL_ENV" "$SOURCE_DATE_EPOCH"
    mkdir -p /build/in/opt && mv "$VIRTUAL_ENV" /build/in/opt/ && ln -s /build/in/opt/custody /opt/custody
    touch -d "@$SOURCE_DATE_EPOCH" /build/in/opt
    ;;
  package)
    "$tools/pip3" wheel --quiet --no-deps --no-build-isolation --wheel-dir /build/wheel /src
    "$tools/pip3" --python "$VIRTUAL_ENV/bin/python3" install --quiet --no-deps --no-index /build/wheel/*.whl
    "$tools/cyclonedx-py" environment --output-reproducible --sv 1.6 --of JSON \
      -o "$VIRTUAL_ENV/sbom.cdx.json" "$VIRTUAL_ENV/bin/python3"
    python3 /build/assemble.py "$VIRTUAL_ENV" "$SOURCE_DATE_EPOCH" --only kfp_custody --out "/build/out$VIRTUAL_ENV"
    touch -d "@$SOURCE_DATE_EPOCH" /build/out/opt
    ;;
esac
