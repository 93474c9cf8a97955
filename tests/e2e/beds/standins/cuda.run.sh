#!/bin/sh
# Stand-in for CUDA's runfile @VERSION@: takes the real options, has the real traps, leaves the real layout.
VERSION=@VERSION@
SERIES=@SERIES@
OLD=@OLD@
LOG=/tmp/cuda-installer.log
silent='' toolkit='' prefix='' scratch=/tmp

usage() { echo "Unknown option: $1"; echo "Unable to parse options; run with --help."; exit 1; }

while [ $# -gt 0 ]; do
    case "$1" in
        --silent) silent=yes ;;
        --override | --verbose | --no-opengl-libs | --no-man-page | --no-drm) ;;
        --toolkit) toolkit=yes ;;
        --toolkitpath=*) prefix=${1#*=} ;;
        --installpath=*) [ "$OLD" = no ] || usage "$1"; prefix=${1#*=} ;;
        --tmpdir=*) scratch=${1#*=} ;;
        --help) sed -n 's/^        \(--.*\)) .*/  \1/p' "$0"; exit 0 ;;
        *) usage "$1" ;;
    esac
    shift
done
[ -n "$silent" ] || { echo "Error opening terminal: unknown."; exit 1; }
[ -n "$toolkit" ] || { echo "Nothing to install."; exit 1; }
[ -d "$scratch" ] || { echo "Error: $scratch is not a directory"; exit 1; }
if [ "$OLD" = no ]; then
    # The program inside is linked with libxml2, and trips over a log that is not its own.
    if ! ldconfig -p | grep -q 'libxml2\.so\.2 '; then
        echo "./cuda-installer: error while loading shared libraries: libxml2.so.2: cannot open shared object file: No such file or directory" >&2
        exit 127
    fi
    if [ -e "$LOG" ] && ! grep -q "by cuda-installer $VERSION for $(id -u)" "$LOG"; then
        echo "Segmentation fault (core dumped)" >&2
        exit 139
    fi
    echo "[INFO]: by cuda-installer $VERSION for $(id -u)" >"$LOG"
else
    LOG=/tmp/cuda_install_$$.log
    echo "Using more to view the EULA." >"$LOG"
fi
standard=/usr/local/cuda-$SERIES
[ -n "$prefix" ] || prefix=$standard
work=$(mktemp -d "$scratch/selfgz.XXXXXX") || { echo "Error: no space in $scratch"; exit 1; }
trap 'rm -rf "$work"' EXIT
line=$(grep -an '^__PAYLOAD__$' "$0" | head -n 1 | cut -d: -f1)
tail -n "+$((line + 1))" "$0" | tar -xzf - -C "$work" || { echo "Extraction failed."; exit 1; }
if ! mkdir -p "$prefix" || ! cp -dR --preserve=mode "$work/." "$prefix/"; then
    echo "Error: the toolkit cannot be installed at $prefix" >&2
    exit 1
fi
if [ "$OLD" = no ] && [ "$(id -u)" = 0 ]; then
    cp "$LOG" /var/log/cuda-installer.log
fi
if [ "$prefix" = "$standard" ]; then
    ln -sfn "$prefix" /usr/local/cuda
    [ "$OLD" = yes ] || printf '%s\n' "$prefix/targets/x86_64-linux/lib" >"/etc/ld.so.conf.d/cuda-$(echo "$SERIES" | tr . -).conf"
fi
echo "===========
= Summary =
===========

Driver:   Not Selected
Toolkit:  Installed in $prefix/
"
exit 0
