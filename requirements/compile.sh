#!/bin/sh
# Re-make the pinned sets from the .in files: requirements/compile.sh [--upgrade]
# Needs uv on PATH (or its path in UV) and the package index that uv is set up for. Without --upgrade a pin that is
# already in a set stays as it is, so that adding one package changes one package.
set -eu
cd "$(dirname "$0")"

# compile OUTPUT PYTHON PLATFORM INPUT... : one set. Wheels only, because building from source needs a compiler.
compile() {
    output=$1 python=$2 platform=$3
    shift 3
    echo "requirements/$output" >&2
    "${UV:-uv}" pip compile --quiet ${upgrade:+"$upgrade"} --system-certs --generate-hashes --no-annotate --only-binary :all: \
        --no-emit-index-url --no-emit-find-links --python-version "$python" --python-platform "$platform" \
        --custom-compile-command requirements/compile.sh -o "$output" "$@"
}

upgrade=
case ${1:-} in
    '') ;;
    --upgrade) upgrade=--upgrade ;;
    *) echo "usage: requirements/compile.sh [--upgrade]" >&2; exit 2 ;;
esac

# pip.txt serves every Python, so it keeps its environment markers.
"${UV:-uv}" pip compile --quiet ${upgrade:+"$upgrade"} --system-certs --generate-hashes --no-annotate --universal \
    --no-emit-index-url --python-version 3.8 --custom-compile-command requirements/compile.sh -o pip.txt pip.in
# Python 3.8 is what Ubuntu 18.04 offers a controller, and its glibc 2.27 takes no newer wheels than manylinux2014.
for minor in 8 9 10 11 12 13 14; do
    if [ "$minor" = 8 ]; then glibc=manylinux2014; else glibc=manylinux_2_28; fi
    compile "py3$minor.txt" "3.$minor" "x86_64-$glibc" controller.in dev.in
    compile "user-py3$minor.txt" "3.$minor" "x86_64-$glibc" controller.in -c "py3$minor.txt"
done
compile lint.txt 3.11 x86_64-manylinux_2_28 lint.in
compile service.txt 3.11 x86_64-manylinux_2_28 service.in

if grep -nE 'https?:|file:' ./*.txt; then
    echo "a set names an index: only names, versions and hashes belong there" >&2
    exit 1
fi
