#!/usr/bin/env bash
# The documents: what they point at is there, the code that they quote is the code's, and the first page stays short.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "docs: $*" >&2; exit 1; }

words=$(wc -w < README.md)
[[ $words -le 1300 ]] || fail "README.md has $words words, more than 1300: the rest belongs to pages of docs/"
grep -q '^scripts/test ' README.md || fail "README.md does not say how all tests are run"

if ! command -v python3 > /dev/null; then
  echo "no python3, which scripts/check_links needs"
  exit 77
fi
scripts/check_links || fail "see above"

# ---- that it finds what is wrong ---------------------------------------------------------------------------------------

mkdir -p "$folder/docs" "$folder/src/base" "$folder/build"
printf 'int a();\nint b();\n  int c();\n' > "$folder/src/base/a.h"
echo '// DOCS/gone.md and SRC/base/gone.h, but DOCS/page.md, SRC/base/a.h, base/a.h; other/a.h' > "$folder/src/base/b.h"
cp "$folder/src/base/b.h" "$folder/build/c.h"
cat > "$folder/docs/page.md" << 'END'
# A page: `code` & [link](../README.md)
## Twice
## Twice
[this](#a-page-code--link) [second](#twice-1) [picture](../src/base/a.h#L2) <https://elsewhere.org/x.md> `SRC/base/a.h` `base/a.h` `b.h` `b.h c`
END
cat > "$folder/README.md" << 'END'
[good](DOCS/page.md#twice) ![gone](DOCS/gone.png) [no heading](DOCS/page.md#thrice) [elsewhere](http://a.org/b)
[up](../outside.md) <img src="gone.svg"> `SRC/base/gone.cc` `[no](link.md)` `other/a.h`

[reference]: DOCS/gone.md

A [link that goes
on](DOCS/gone.md) and `code that
goes on`.
```cpp SRC/base/a.h
int a();
...
  int c();
```
```cpp SRC/base/a.h
int b();
int a();
```
```
[no](link.md) in code
```
END
# So written that the check of this project finds none of it here.
named() { sed -i 's/DOCS/docs/g; s/SRC/src/g' "$@"; }
named "$folder/README.md" "$folder/docs/page.md" "$folder/src/base/b.h" "$folder/build/c.h"
status=0
scripts/check_links "$folder" > "$folder/out" || status=$?
[[ $status -eq 1 ]] || fail "exit code $status instead of 1: $(cat "$folder/out")"
cat > "$folder/expected" << 'END'
README.md:1: DOCS/gone.png is not there
README.md:1: DOCS/page.md#thrice has no heading #thrice
README.md:2: ../outside.md lies outside the project
README.md:2: gone.svg is not there
README.md:2: other/a.h is not there
README.md:2: SRC/base/gone.cc is not there
README.md:4: DOCS/gone.md is not there
README.md:6: DOCS/gone.md is not there
README.md:14: quotes SRC/base/a.h, which has no line "int a();" (or not there)
SRC/base/b.h:1: DOCS/gone.md is not there
SRC/base/b.h:1: other/a.h is not there
SRC/base/b.h:1: SRC/base/gone.h is not there
END
named "$folder/expected"
head -n -1 "$folder/out" | diff "$folder/expected" - || fail "scripts/check_links found other faults than there are"
status=0
scripts/check_links "$folder/nowhere" 2> "$folder/err" > "$folder/out" || status=$?
[[ $status -eq 2 && -s $folder/err ]] || fail "a folder that is not there: exit code $status instead of 2"
