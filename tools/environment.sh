#!/bin/sh
# Brings .venv to exactly what the lock file asks for: environment.sh run|dev|bench
#
# A file in .venv, named by the hash of everything it was made from, says that the work is done. `make` looks for that
# file and does not start this script when it is there.
set -eu

purpose=$1
stamp=$2
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

# What a distribution ships was compiled with a profile of how it runs; what a version manager compiles mostly was not,
# and takes half as long again for everything: /usr/bin comes first. A .venv that is there stays with what it has.
find_python() {
    usable='import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'
    for candidate in /usr/bin/python3.12 /usr/bin/python3.11 python3.12 python3.11 python3 python; do
        # Some version managers put a name on the PATH that only says "not installed", and Debian ships what makes an
        # environment by itself: ask it for both.
        if "$candidate" -c "$usable" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "KongFlow needs Python 3.11 or 3.12 with its venv module (Debian: python3-venv): none was found." >&2
    return 1
}

if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    python=$(find_python)
    rm -rf .venv
    echo "Creating .venv with $("$python" --version), $(command -v "$python")"
    if ! "$python" -m venv .venv; then
        rm -rf .venv
        exit 1
    fi
fi

echo "Installing what requirements/$purpose.txt pins into .venv"
pip=".venv/bin/python -m pip --quiet"
parts=.venv/parts
rm -rf "$parts"
mkdir "$parts"
# pip installs one package after the other, and a lock names all there are: each processor, up to 8, has a share of them.
awk -v processors="$(getconf _NPROCESSORS_ONLN || echo 2)" -v parts="$parts" '
    BEGIN { most = processors < 8 ? processors : 8 }
    /^[^ ]/ { is_new = !seen[$0]++; part = parts "/" ++count % most ".txt" }
    is_new { print > part }
' requirements/build.txt "requirements/$purpose.txt"
installing=
for part in "$parts"/*; do
    $pip install --no-compile --no-deps --require-hashes --only-binary=:all: -r "$part" &
    installing="$installing $!"
done
for each in $installing; do
    wait "$each"
done
rm -r "$parts"
# pip would compile one file after the other, and what is ours would be compiled by each process that starts first.
.venv/bin/python -m compileall -q -j 0 .venv/lib cli gen services &
compiling=$!
$pip install --no-deps --no-build-isolation --editable .
wait "$compiling"
rm -f .venv/.made-"$purpose"-*
touch "$stamp"
