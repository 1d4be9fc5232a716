#!/usr/bin/env bash
# Holds the running binary to its own /openapi.json: schemathesis sends what the document allows and what it does not, logged in, limits
# off, from a fixed seed, until the time is over. No answer may be a 5xx, or one that the document does not know.
# usage: tests/openapi/run.sh [BINARY] [SECONDS]; it needs python3 with venv, and installs schemathesis below the target folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

target="${CARGO_TARGET_DIR:-target}"
binary="${1:-$target/ci/urge}"
seconds="${2:-120}"
version=4.32.5

mkdir -p "$target"
tools="$(realpath "$target")/schemathesis-$version"
[[ -x "$tools/bin/schemathesis" ]] || { python3 -m venv "$tools" && "$tools/bin/pip" install --quiet "schemathesis==$version"; }

folder="$(mktemp -d)"
node=
finish() {
    local status=$?
    [[ -z "$node" ]] || { kill "$node" 2>/dev/null; wait "$node" 2>/dev/null || true; }
    if ((status != 0)); then tail -n 20 "$folder/log" 2>/dev/null || true; fi
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

json='Content-Type: application/json'
field() { grep -o "\"$1\":\"[^\"]*\"" | head -n 1 | cut -d '"' -f 4; }
ada="$(curl -sf "$url/auth/register" -H "$json" -d '{"phone_number": "+12025550101", "password": "correct horse", "display_name": "Ada"}')"
ben="$(curl -sf "$url/auth/register" -H "$json" -d '{"phone_number": "+12025550102", "display_name": "Ben"}' | field id)"
token="$(echo "$ada" | field access_token)"
conversation="$(curl -sf "$url/conversations" -H "Authorization: Bearer $token" -H "$json" -d "{\"type\": \"DIRECT\", \"participant_ids\": [\"$ben\"]}" | field id)"
message="$(curl -sf "$url/messages" -H "Authorization: Bearer $token" -H "$json" -d "{\"conversation_id\": \"$conversation\", \"content\": \"hello\"}" | field id)"

# Ids that exist, so that more than 404s is seen. What ends the login itself is left out.
cat >"$folder/schemathesis.toml" <<EOF
[parameters]
"path.user_id" = "$ben"
[[operations]]
include-path-regex = "^/conversations/\\\\{id\\\\}"
parameters = { "path.id" = "$conversation" }
[[operations]]
include-path-regex = "^/messages/\\\\{id\\\\}"
parameters = { "path.id" = "$message" }
EOF
skip=()
for operation in logout_user reset_password end_session end_other_sessions; do skip+=(--exclude-operation-id "$operation"); done

# Where it runs it leaves notes of what it found.
cd "$folder"
"$tools/bin/schemathesis" --config-file "$folder/schemathesis.toml" run "$url/openapi.json" --header "Authorization: Bearer $token" \
    --phases examples,coverage,fuzzing --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --seed 20260131 --max-examples 25 --max-time "$seconds" --continue-on-failure --no-shrink --workers 2 \
    --generation-database none "${skip[@]}"
kill -0 "$node" || { echo "the node has ended"; exit 1; }
curl -sf "$url/auth/me" -H "Authorization: Bearer $token" >/dev/null
