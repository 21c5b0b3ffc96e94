#!/usr/bin/env bash
# A sample of scripts/stop_test: stops at random moments, with an odd vocabulary in fp32, lose nothing.
set -euo pipefail
out=$(scripts/stop_test -v 257 -p fp32 -k train 6 2>&1) || { echo "$out"; exit 1; }
grep -q "checkpoint equal to an unbroken run's" <<< "$out" || { echo "no run was stopped in a step: $out"; exit 1; }
