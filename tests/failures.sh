#!/usr/bin/env bash
# The failure matrix in its long form: every case for minutes and with several seeds, one after the other, on real servers: three
# nodes of the store that sync each write, unless `URGE_TEST_SCYLLA` and `URGE_TEST_NATS` name others. Prints what
# docs/RELIABILITY.md is made of: date, commit, machine, and a line of figures a case; everything else is in the log that it names.
# It fails when a test does, when one was skipped, when one passed and said nothing of what it came to, and, if all cases were asked for,
# when one of the 13 has no line. An hour and more.
#
#     tests/failures.sh [CASE ...]      as `cargo test` filters: failures::killed, failures::store ...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cases=("$@")
((${#cases[@]})) || cases=(failures::)
log="${CARGO_TARGET_DIR:-$PWD/target}/failures.log"
mkdir -p "$(dirname "$log")"
echo "date $(date -u +%Y-%m-%d), commit $(git rev-parse --short HEAD)$([[ -z $(git status --porcelain) ]] || echo ', changed'), $(nproc) processors, Linux $(uname -r)"
echo "log $log"
# Nothing is skipped for want of a tool.
export CI=1
export URGE_TEST_FAILURES=long
if [[ -z ${URGE_TEST_SCYLLA:-} || -z ${URGE_TEST_NATS:-} ]]; then
    # They end with this script.
    started=$(tests/servers/servers.py --state "$(dirname "$log")/failures-servers" start --count 3 --nats 1 --durable --until $$)
    # shellcheck disable=SC2086  # lines of NAME=VALUE
    export $started
fi
wrong=0
# With the command that a case runs, which this leaves beside the test.
cargo test --profile ci --workspace --locked --no-run
cargo test --profile ci --workspace --locked --test it -- --nocapture --test-threads 1 "${cases[@]}" >"$log" 2>&1 || wrong=$?
# The harness prints a test's name without ending the line.
lines=$(sed -n 's/^.*failures: \([0-9][0-9]* \)/\1/p' "$log")
printf '%s\n' "$lines"
if ((wrong)); then
    echo "FAILED:"
    grep -A3 'panicked at' "$log" | cut -c1-400 || tail -40 "$log"
fi
if grep 'NOT RUN\|SKIPPED\|; [1-9][0-9]* ignored;' "$log"; then
    echo "FAILED: something was skipped"
    wrong=1
fi
if ! grep -q 'test result: ok. [1-9]' "$log" && ((wrong == 0)); then
    echo "FAILED: no test has these names: ${cases[*]}"
    wrong=1
fi
# What the cases stand on, the judges and their controls, comes to no figures.
silent=$(awk '
    /^test [^ ]+.* \.\.\. / { name = $2; has_line = 0 }
    /failures: [0-9]+ / { has_line = 1 }
    / \.\.\. ok$|^ok$/ { if (name ~ /^failures::/ && name !~ /^failures::control::|::tests::/ && !has_line) print name }
' "$log")
for name in $silent; do
    echo "FAILED: $name passed without a line"
    wrong=1
done
if (($# == 0)); then
    for number in {1..13}; do
        grep -q "^$number " <<<"$lines" || { echo "FAILED: case $number has no line"; wrong=1; }
    done
fi
echo "$SECONDS s"
exit "$wrong"
