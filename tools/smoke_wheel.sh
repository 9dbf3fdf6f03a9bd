#!/usr/bin/env bash
# Build wheel and sdist, install the wheel into a clean environment, and use it from a folder that is not the repository; install the
# sdist too and compare.
# Needs a network (or a pip mirror) for the dependencies. Usage: tools/smoke_wheel.sh [PYTHON]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${1:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m venv "$work/build"
"$work/build/bin/pip" install --quiet build
"$work/build/bin/python" -m build --outdir "$work/dist" "$root"
ls -l "$work/dist"

"$python" -m venv "$work/clean"
# torch first, so that pip takes no other build of it
"$work/clean/bin/pip" install --quiet "$(grep -m1 '^torch==' "$root/constraints.txt")"
"$work/clean/bin/pip" install --quiet --constraint "$root/constraints.txt" "$work"/dist/*.whl
# the source distribution by itself gives the same package
"$work/clean/bin/pip" install --quiet --no-deps --target "$work/from-source" "$work"/dist/*.tar.gz
diff -r --exclude=__pycache__ "$work/from-source/mechfourier" "$work"/clean/lib/python3*/site-packages/mechfourier
cd "$work"
export HF_HUB_OFFLINE=1 MECHFOURIER_CACHE="$work/cache" PATH="$work/clean/bin:$PATH"

mechfourier --version
python -m mechfourier --help > /dev/null
mechfourier doctor
mechfourier probe calendar --domain days --permutations 100 --out "$work/out"
mechfourier rotate calendar --domain days --controls 0 --out "$work/out"
mechfourier analyze one-layer --json > "$work/one-layer.json"
mechfourier report "$work/out" --out "$work/report.html"
python - <<'PY'
import mechfourier as mf
answer = mf.load("adder").answer("99999999999999999999+1=")
assert answer == ["100000000000000000000"], answer
PY
# completion: Typer writes the script for the shell it is told
_MECHFOURIER_COMPLETE=source_bash mechfourier | grep -q _mechfourier_completion
_MECHFOURIER_COMPLETE=complete_bash COMP_WORDS="mechfourier prob" COMP_CWORD=1 mechfourier | grep -qx probe
echo "the wheel works"
