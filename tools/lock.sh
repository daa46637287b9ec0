#!/bin/sh
# Pins what pyproject.toml asks for, with hashes, for every supported Python at once. Needs uv on the PATH.
#
# service.txt is what a container runs, run.txt adds the embedded PostgreSQL and Redis, dev.txt adds the tools,
# bench.txt adds to run.txt what the benchmarks measure beside the product.
set -eu
cd "$(dirname "$0")/.."

pin() {
    target=$1
    shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
        "$@" --output-file "requirements/$target.txt"
}

pin service pyproject.toml
pin run --extra embedded pyproject.toml --constraints requirements/service.txt
pin dev --extra embedded --extra dev pyproject.toml --constraints requirements/run.txt
pin bench --extra embedded --extra bench pyproject.toml --constraints requirements/dev.txt
printf 'hatchling\neditables\n' | pin build -
