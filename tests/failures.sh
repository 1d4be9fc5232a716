#!/usr/bin/env bash
# The failure matrix in its long form: every case for minutes and with several seeds, one after the other, on real servers. Prints
# what docs/RELIABILITY.md is made of: date, commit, machine, and a line of figures a case. About half an hour.
#
#     tests/failures.sh [CASE ...]      as `cargo test` filters: failures::killed, failures::store ...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cases=("$@")
((${#cases[@]})) || cases=(failures::)
echo "date $(date -u +%Y-%m-%d), commit $(git rev-parse --short HEAD)$([[ -z $(git status --porcelain) ]] || echo ', changed'), $(nproc) processors, Linux $(uname -r)"
export URGE_TEST_FAILURES=long
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
cargo test --profile ci --locked --test it -- --nocapture --test-threads 1 "${cases[@]}" >"$log" 2>&1 || status=$?
# The harness prints a test's name without ending the line.
grep -o 'failures: [0-9].*' "$log" | sed 's/^failures: //' || true
if ((status)); then
    echo "FAILED:"
    grep -A3 'panicked at' "$log" | cut -c1-400 || tail -40 "$log"
fi
exit "$status"
