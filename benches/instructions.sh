#!/usr/bin/env bash
# Counts the instructions of the hot paths (benches/instructions.rs under callgrind), without those inside the allocator, and how often
# they allocate, and holds both to benches/instructions.json: they do not move with the machine's mood, so one that differs by more than
# 3 % is a change of the code. Fewer fails too, so that it is kept.
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
# Each is one instruction, a jump, so these are as many as its calls. The calls that callgrind counts are those of the whole run.
ALLOCATIONS = {"__rustc::__rust_alloc", "__rustc::__rust_alloc_zeroed", "__rustc::__rust_realloc"}


def counts(profile):
    """The instructions that one thread ran, in callgrind's format, and its allocations. Not what is inside the allocator: that depends
    on which chunks the threads that started the node happened to leave free, and moved some by 7 % from one run to the next."""
    total = inside = allocations = 0
    caller_is_libc = caller_allocates = callee_is_allocator = next_is_call = False
    for line in profile:
        if line.startswith("ob="):
            caller_is_libc = "libc.so" in line
        elif line.startswith("fn="):
            caller_allocates = line[3:].strip() in ALLOCATIONS
        elif line.startswith("cfn="):
            callee_is_allocator = line[4:].strip() in ALLOCATOR
        elif line.startswith("calls="):
            next_is_call = True
            continue
        elif line.startswith("totals:"):
            total = int(line.split()[1])
        elif next_is_call and callee_is_allocator and not caller_is_libc:
            inside += int(line.split()[1])
        elif not next_is_call and caller_allocates and line[0].isdigit():
            allocations += int(line.split()[1])
        next_is_call = False
    return {"instructions": total - inside, "allocations": allocations}


now = {}
with open(counted) as lines:
    for line in filter(str.strip, lines):
        summary = json.loads(line)
        profiles = [counts(path.open()) for path in pathlib.Path(summary["output_dir"]).glob("callgrind.*.out")]
        now[summary["function_name"]] = {unit: sum(profile[unit] for profile in profiles) for unit in ("instructions", "allocations")}
# Each of them allocates: a name that has changed would count nothing.
if not now or not all(count for units in now.values() for count in units.values()):
    sys.exit(f"not everything was counted: {now}")
if keep == "--keep":
    with open(kept_path, "w") as file:
        json.dump(now, file, indent=2, sort_keys=True)
        file.write("\n")
    print(f"kept in {kept_path}")
with open(kept_path) as file:
    kept = json.load(file)
differs = sorted(set(now) ^ set(kept))
for name, units in sorted(now.items()):
    told = []
    for unit, count in units.items():
        change = count / kept[name][unit] - 1 if name in kept else 0.0
        told.append(f"{count:>12,} {unit} {change:+8.2%}")
        if abs(change) > TOLERANCE:
            differs.append(f"{name} ({unit})")
    print(f"{name:24} {' '.join(told)}")
if differs:
    sys.exit(f"not as in {kept_path}: {', '.join(differs)}. If that is as it should be: benches/instructions.sh --keep")
PYTHON
