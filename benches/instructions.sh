#!/usr/bin/env bash
# Counts the instructions of the hot paths (benches/instructions.rs under callgrind), the allocator's left out, and holds them to
# benches/instructions.json: they do not move with the machine's mood, so one that differs by more than 3 % is a change of the code. Fewer
# fails too, so that it is kept.
# usage: benches/instructions.sh [--keep]; --keep writes what was counted. It needs valgrind and python3, and installs the runner below
# the target folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.20.0
command -v valgrind >/dev/null || { echo "valgrind is missing: install it (Debian: apt-get install valgrind)" >&2; exit 1; }
target="$(mkdir -p "${CARGO_TARGET_DIR:-target}" && realpath "${CARGO_TARGET_DIR:-target}")"
tools="$target/gungraun-$version"
[[ -x "$tools/bin/gungraun-runner" ]] || cargo install --quiet --locked --root "$tools" gungraun-runner --version "$version"

# Our own code optimised, on the dependencies as the tests are linked to them: only our own is built once more. It is not the release,
# whose dependencies are optimised too: the counts are for comparing with themselves.
export GUNGRAUN_RUNNER="$tools/bin/gungraun-runner"
counted="$(mktemp)"
trap 'rm -f "$counted"' EXIT
cargo bench --profile ci --config 'profile.ci.package.urge.opt-level=3' --locked --bench instructions -- --output-format=json >"$counted"

python3 - "$counted" benches/instructions.json "${1:-}" <<'PYTHON'
import json, pathlib, sys

counted, kept_path, keep = sys.argv[1:]
TOLERANCE = 0.03
ALLOCATOR = {"malloc", "calloc", "realloc", "posix_memalign", "free"}


def instructions(profile):
    """What one thread ran, in callgrind's format, without what is inside the allocator: that depends on which chunks the threads that
    started the node happened to leave free, and moved some counts by 5 % from one run to the next. Calling it is counted."""
    total = inside = 0
    caller_is_libc = callee_allocates = next_is_cost = False
    for line in profile:
        if next_is_cost:
            inside += int(line.split()[1])
            next_is_cost = False
        elif line.startswith("ob="):
            caller_is_libc = "libc.so" in line
        elif line.startswith("cfn="):
            callee_allocates = line[4:].strip() in ALLOCATOR
        elif line.startswith("calls="):
            next_is_cost = callee_allocates and not caller_is_libc
        elif line.startswith("totals:"):
            total = int(line.split()[1])
    return total - inside

now = {}
with open(counted) as lines:
    for line in filter(str.strip, lines):
        summary = json.loads(line)
        profiles = pathlib.Path(summary["output_dir"]).glob("callgrind.*.out")
        now[summary["function_name"]] = sum(instructions(profile.open()) for profile in profiles)
if not now or 0 in now.values():
    sys.exit(f"no counts were found: {now}")
if keep == "--keep":
    with open(kept_path, "w") as file:
        json.dump(now, file, indent=2, sort_keys=True)
        file.write("\n")
    print(f"kept in {kept_path}")
with open(kept_path) as file:
    kept = json.load(file)
differs = sorted(set(now) ^ set(kept))
for name, count in sorted(now.items()):
    change = count / kept[name] - 1 if name in kept else 0.0
    print(f"{name:24} {count:>12,} instructions {change:+8.2%}")
    if abs(change) > TOLERANCE:
        differs.append(name)
if differs:
    sys.exit(f"not as in {kept_path}: {', '.join(differs)}. If that is as it should be: benches/instructions.sh --keep")
PYTHON
