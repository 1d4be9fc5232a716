#!/usr/bin/env bash
# Holds the running binary to its own /openapi.json: schemathesis sends what the document allows and what it does not, logged in, limits
# off, from a fixed seed, about things that exist (hooks.py). No answer may be a 5xx, or one that the document does not know, and each
# operation must succeed at least once (verdict.py). It ends by itself, after a minute or so; one that has to be cut off has failed.
# usage: tests/openapi/run.sh [BINARY] [SECONDS AT MOST]; it needs python3 with venv, and installs schemathesis below the target folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

target="${CARGO_TARGET_DIR:-target}"
binary="${1:-$target/ci/urge}"
seconds="${2:-300}"
here="$PWD/tests/openapi"
version=4.32.5
examples=80

mkdir -p "$target"
tools="$(realpath "$target")/schemathesis-$version"
[[ -x "$tools/bin/schemathesis" ]] || { python3 -m venv "$tools" && "$tools/bin/pip" install --quiet "schemathesis==$version"; }

folder="$(mktemp -d)"
node=
finish() {
    local status=$?
    [[ -z "$node" ]] || { kill "$node" 2>/dev/null; wait "$node" 2>/dev/null || true; }
    if ((status != 0)); then grep -v "^one-time code" "$folder/log" 2>/dev/null | tail -n 20 || true; fi
    rm -rf "$folder"
}
trap finish EXIT

port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
url="http://127.0.0.1:$port"
URGE_LISTEN="127.0.0.1:$port" URGE_DATA_DIR="$folder/data" URGE_RATE_LIMIT=off URGE_LOG=warn "$binary" >"$folder/log" 2>&1 &
node=$!
for _ in $(seq 200); do
    curl -sf -o /dev/null "$url/ready" && break
    kill -0 "$node" || { echo "the node did not start"; exit 1; }
    sleep 0.05
done
curl -sf -o "$folder/openapi.json" "$url/openapi.json"

# hooks.py logs in. The same seed sends the same: nothing is learnt from answers, whose ids are new each time.
cat >"$folder/schemathesis.toml" <<EOF
[auth]
auto-signup = false
[phases]
examples.extra-data-sources.responses = false
coverage.extra-data-sources.responses = false
fuzzing.extra-data-sources.responses = false
fuzzing.error-feedback.enabled = false
EOF

# Where it runs it leaves notes of what it found. With two workers it is no faster, and leaves out an operation now and then.
cd "$folder"
status=0
URGE_URL="$url" URGE_LOG_FILE="$folder/log" URGE_ANSWERS="$folder/answers.json" SCHEMATHESIS_HOOKS="$here/hooks.py" \
    PYTHONDONTWRITEBYTECODE=1 timeout --kill-after=10 "$seconds" \
    "$tools/bin/schemathesis" --config-file "$folder/schemathesis.toml" run "$url/openapi.json" \
    --phases examples,coverage,fuzzing --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --seed 20260131 --max-examples "$examples" --continue-on-failure --no-shrink --workers 1 --generation-database none || status=$?
((status != 124 && status != 137)) || { echo "CUT OFF after $seconds s: nothing is said of what had not been sent yet"; exit 1; }
((status == 0)) || exit "$status"
kill -0 "$node" || { echo "the node has ended"; exit 1; }
python3 "$here/verdict.py" "$folder/openapi.json" "$folder/answers.json"
