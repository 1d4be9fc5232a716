#!/usr/bin/env bash
# Looks for input that breaks a promise, guided by coverage (libFuzzer): what it finds stands below __fuzz__, where every run of the
# tests tries it again.
# usage: tests/it/fuzz/run.sh TARGET [SECONDS], for example doors::cursors 100. The first build takes some ten minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

name="fuzz::$1"
seconds="${2:-60}"
host="$(rustc -vV | sed -n 's/^host: //p')"
flags=(--cfg fuzzing -Cpasses=sancov-module --cfg fuzzing_libfuzzer)
for option in inline-8bit-counters level=4 pc-table trace-compares stack-depth; do flags+=("-Cllvm-args=-sanitizer-coverage-$option"); done
# The binary that other tests start is built too, and never runs here: it has no engine to report to.
flags+=(-Clink-arg=-Wl,--unresolved-symbols=ignore-all)

# Coverage is an unstable option of a stable compiler.
export RUSTC_BOOTSTRAP=1 CARGO_INCREMENTAL=0
RUSTFLAGS="${flags[*]}" cargo test --locked --profile fuzz --target "$host" --test it --no-run
binary="$(RUSTFLAGS="${flags[*]}" cargo test --locked --profile fuzz --target "$host" --test it --no-run --message-format=json 2>/dev/null |
    grep -o '"executable":"[^"]*/deps/it-[^"]*"' | cut -d '"' -f 4)"

folder="tests/it/fuzz/__fuzz__/${name//::/__}"
found="$(mktemp -d)"
trap 'rm -rf "$found"' EXIT
mkdir -p "$folder/corpus" "$folder/crashes"
BOLERO_FUZZER=libfuzzer \
    BOLERO_LIBFUZZER_ARGS="$found $folder/corpus -artifact_prefix=$folder/crashes/ -timeout=10 -max_len=512 -max_total_time=$seconds" \
    "$binary" "$name" --exact --nocapture --test-threads=1
rmdir --ignore-fail-on-non-empty "$folder/crashes"
