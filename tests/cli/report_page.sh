#!/usr/bin/env bash
# The page of `sluice compare --report` in a headless browser: its scripts run without an error, draw what the data say,
# and follow what is clicked (report_page.js, which writes what it saw into the page). Two variants of two seeds and two
# layers, one of them with a gate, and a run whose name is markup.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

browser=
for name in chromium chromium-browser google-chrome chrome; do
  if command -v "$name" > /dev/null; then browser=$name; break; fi
done
if [[ -z $browser ]]; then
  echo "THE REPORT'S PAGE WAS RUN IN NO BROWSER: there is no chromium here (Debian: apt-get install chromium)"
  exit 77
fi

if ! command -v python3 > /dev/null; then
  echo "THE REPORT'S PAGE WAS RUN IN NO BROWSER: there is no python3 here, which puts the test into it"
  exit 77
fi

source "$here/tiny_run.bash"

options=(--set model.layers=2 --set train.steps=8 --set log.probe_every=4 --set log.analyze_every=8
         --set log.analyze_sequences=2 --set log.checkpoint_every=0)
for variant in softmax vga; do
  for seed in 1 2; do
    train "$variant-s$seed" --set model.attention=$variant --set seed=$seed "${options[@]}" || fail "$(cat "$folder/err")"
  done
done
train 'x<img src=y onerror=document.title=1>' --set model.attention=relu "${options[@]}" || fail "$(cat "$folder/err")"
"$SLUICE" compare "$folder"/softmax-s? "$folder"/vga-s? "$folder"/x* --report "$folder/page.html" > /dev/null 2> "$folder/err" ||
  fail "$(cat "$folder/err")"

# The test's listener for errors comes before the page's scripts, the test after them.
python3 - "$folder/page.html" "$here/report_page.js" "$folder/tested.html" << 'PY'
import sys
page, test, out = sys.argv[1:]
text = open(page).read()
assert text.count("<head>") >= 1 and text.rstrip().endswith("</html>")
listen = "<head><script>window.pageErrors = []; window.onerror = text => { window.pageErrors.push(String(text)); };</script>"
text = text.replace("<head>", listen, 1)
at = text.rindex("</body>")
open(out, "w").write(text[:at] + "<script>\n" + open(test).read() + "\n</script>\n" + text[at:])
PY

timeout 120 "$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$folder/profile" \
  --window-size=1200,900 --virtual-time-budget=10000 --dump-dom "file://$folder/tested.html" > "$folder/dom" 2> "$folder/err" ||
  fail "$browser: $(tail -n 3 "$folder/err")"
# Between lines of its own, with the characters of markup as entities.
sed -n '/^PAGE TEST BEGINS$/,/^PAGE TEST ENDS$/p' "$folder/dom" > "$folder/results"
[[ -s $folder/results ]] || fail "the page's test wrote nothing: $(tail -n 3 "$folder/err")"
grep -q '^FAILED' "$folder/results" && fail "$(cat "$folder/results")"
grep -q '^15 checks$' "$folder/results" || fail "not every check was made: $(cat "$folder/results")"
