#!/usr/bin/env bash
# A sample of scripts/kill_test: killed at system calls, each life ends where an unbroken one ends; and of calls that fail:
# what was interrupted is done all the same, and what the disk refuses ends with one sentence and loses nothing.
set -euo pipefail

command -v python3 > /dev/null || { echo "skipped: python3 is not installed"; exit 77; }
command -v "${CC:-cc}" > /dev/null || { echo "skipped: no C compiler"; exit 77; }
! grep -q asan <(ldd "$SLUICE") || { echo "skipped: a sanitizer does not let another library come first"; exit 77; }
scripts/kill_test --sluice "$SLUICE" --kills 3 --lives train,fork,never,encode,export
scripts/kill_test --sluice "$SLUICE" --kills 4 --lives train,rolls,encode,export --error EINTR
scripts/kill_test --sluice "$SLUICE" --kills 4 --lives train,rolls,never,encode,export --error EIO --no-swap
scripts/kill_test --sluice "$SLUICE" --kills 2 --lives train,rolls,import,analyze --error ENOSPC --lasts
