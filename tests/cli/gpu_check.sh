#!/usr/bin/env bash
# scripts/gpu_check from the first to the last step with stand-ins for a GPU, its tools and the CUDA build: what it reports,
# packs, runs again under memcheck, looks for, and leaves when it is ended. And scripts/gpu_bundle, with the programs here.
set -euo pipefail
command -v python3 > /dev/null || { echo "python3 is not installed"; exit 77; }

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "$1"; exit 1; }
build=$folder/build
mkdir -p "$folder/bin" "$build/lib"
export FAKES=$folder
real_path=$PATH
export PATH=$folder/bin:$PATH
unset LD_LIBRARY_PATH

stand_in() { { echo '#!/usr/bin/env bash'; cat; } > "$1"; chmod +x "$1"; }

# Tools of the machine must not see our libraries.
stand_in "$folder/bin/nvidia-smi" <<'END'
[[ -z ${LD_LIBRARY_PATH:-} ]] || echo "nvidia-smi sees $LD_LIBRARY_PATH" >> "$FAKES/leaks"
case $* in
  *name*) echo "NVIDIA Test GPU 80GB" ;;
  *driver_version*) echo 600.01 ;;
  --list-gpus) printf 'GPU 0\nGPU 1\n' ;;
esac
END
# Limits of minutes are half a second here.
stand_in "$folder/bin/timeout" <<END
[[ -z \${LD_LIBRARY_PATH:-} ]] || echo "timeout sees \$LD_LIBRARY_PATH" >> "\$FAKES/leaks"
limit=0.5
[[ ! -e \$FAKES/patient ]] || limit=60
exec $(PATH=$real_path command -v timeout) -k 0.2 \$limit "\${@:4}"
END
stand_in "$folder/bin/compute-sanitizer" <<'END'
[[ -z ${LD_LIBRARY_PATH:-} ]] || echo "compute-sanitizer sees $LD_LIBRARY_PATH" >> "$FAKES/leaks"
echo "========= COMPUTE-SANITIZER $*"
[[ $* != *AnIllegalAccess* ]] || { echo "========= Invalid __global__ read of size 4 bytes"; exit 9; }
END
# A program of the CUDA build is loaded where libneeded.so is found.
stand_in "$folder/bin/ldd" <<'END'
IFS=:
for place in ${LD_LIBRARY_PATH:-}; do [[ ! -e $place/libneeded.so ]] || exit 0; done
echo "	libneeded.so => not found"
END
stand_in "$build/sluice" <<'END'
case $1 in
  --version) echo "sluice 0.1.0" ;;
  doctor) cat "$FAKES/doctor" ;;
  train)
    while [[ $# -gt 0 ]]; do [[ $1 != --out ]] || run=$2; shift; done
    mkdir -p "$run"
    echo '{"kind":"train","step":1,"loss":1}' > "$run/metrics.jsonl" ;;
  bench) echo "$*"; echo "$LD_LIBRARY_PATH" ;;
  compare) echo "compared $#" ;;
esac
END
printf '  ✗ cuDNN attention our own kernels only\n  device auto       cuda\n' > "$folder/doctor"
stand_in "$build/sluice_tests" <<'END'
for argument; do
  case $argument in
    --gtest_list_tests) list=1 ;;
    --gtest_filter=*) filter=${argument#*=} ;;
  esac
done
if [[ -n ${list:-} ]]; then
  printf '%s\n' 'Running main() from a file' CudaTraining. '  Trains' CudaMatmul. '  Product' CudaBackend. '  Copies' '  AnIllegalAccess' \
    '  AfterIt' EveryScore/CudaAttention. '  Hangs/relu  # GetParam() = 1' '  Holds/relu  # GetParam() = 1' \
    '  Holds/softmax  # GetParam() = 2' CudaCrash. '  Dies'
  exit
fi
echo "$filter" >> "$FAKES/filters"
run() { echo "[ RUN      ] $1"; }
case $filter in
  CudaBackend.\*)
    run CudaBackend.Copies
    run CudaBackend.AnIllegalAccess
    echo "CUDA: gelu: an illegal memory access was encountered (cudaErrorIllegalAddress)"
    run CudaBackend.AfterIt
    echo "CUDA: cudaMalloc: an illegal memory access was encountered (cudaErrorIllegalAddress)"
    exit 1 ;;
  CudaBackend.\*:-CudaBackend.AnIllegalAccess) run CudaBackend.AfterIt; printf '[  PASSED  ] 2 tests.\n[  SKIPPED ] 1 test, listed below:\n' ;;
  EveryScore/CudaAttention.\*/relu) run EveryScore/CudaAttention.Hangs/relu; exec sleep 20 ;;
  CudaMatmul.\*) run CudaMatmul.Product; echo "[  FAILED  ] CudaMatmul.Product"; exit 1 ;;
  CudaCrash.\*) run CudaCrash.Dies; kill -SEGV $$ ;;
  *) echo "[  PASSED  ] 1 test." ;;
esac
END

status=0
check() {  # ARGUMENT...: runs the script; output in $folder/out, $folder/err, exit status in $status
  status=0
  scripts/gpu_check --build "$build" --out "$folder/gpu" "$@" > "$folder/out" 2> "$folder/err" || status=$?
}
refused() {  # TEXT: ended with exit status 2 and this in its sentence
  [[ $status -eq 2 ]] && grep -qF -- "$1" "$folder/err" || fail "expected a refusal with '$1', exit status $status: $(cat "$folder/err")"
}

check --only parities
refused "--only parities: the steps are doctor parity"
check --seconds soon
refused "--seconds soon: a whole number is needed"
echo mine > "$folder/notes"
check --pack "$folder/notes"
refused "this file is there and is no packed result"
check --pack "$folder/nowhere/pack.tar.gz"
refused "is no folder that can be written to"
check
refused "libneeded.so => not found"

# Found in torch's wheels, for our own programs only; libraries that were brought along come first.
mkdir -p "$folder/site/nvidia/cu13/lib" "$folder/site/nvidia/nccl/lib"
touch "$folder/site/nvidia/cu13/lib/libneeded.so"
export PYTHONPATH=$folder/site
mkdir -p "$folder/gpu/nvidia-test-gpu-80gb"
echo mine > "$folder/gpu/nvidia-test-gpu-80gb/thesis.txt"
check
refused "was not made by this script"
[[ -f $folder/gpu/nvidia-test-gpu-80gb/thesis.txt ]] || fail "another's file was removed"
rm -r "$folder/gpu"

pack=$folder/pack.tar.gz
check --pack "$pack"
[[ $status -eq 1 ]] || fail "steps failed, and the exit status is $status: $(cat "$folder/err")"
mkdir "$folder/unpacked"
tar -C "$folder/unpacked" -xzf "$pack"
diff -r "$folder/unpacked" "$folder/gpu" || fail "the pack is not what was written"
report=$folder/unpacked/nvidia-test-gpu-80gb.md
has() { grep -qE "$1" "$report" || fail "the report lacks '$1': $(sed -n '/^| /p' "$report")"; }
has '^\| doctor \| ok \|'
has '^\| parity_CudaBackend \| \*\*FAILED\*\* \(1\) in CudaBackend.AnIllegalAccess'
has '^\| parity_CudaBackend_memcheck \| \*\*CudaBackend.AnIllegalAccess\*\*: Invalid __global__ read of size 4 bytes'
has '^\| parity_CudaBackend_again \| ok: 2 passed, 1 skipped'
has '^\| parity_CudaMatmul \| \*\*FAILED\*\* \(1\) \|'
has '^\| parity_CudaTraining \| ok: 1 passed'
has '^\| parity_EveryScore_CudaAttention_relu \| \*\*not done\*\*: the time was up in EveryScore/CudaAttention.Hangs/relu'
has '^\| parity_EveryScore_CudaAttention_relu_again \| ok'
has '^\| parity_EveryScore_CudaAttention_softmax \| ok'
has '^\| parity_CudaCrash \| \*\*FAILED\*\* \(139\) in CudaCrash.Dies'
has '^\| parity_CudaCrash_memcheck \| ok'
has '^\| gpt2_124m_vga \| ok'
has '^\| gpt2_124m_cudnn \| \*\*left out\*\*: .*cudnn_frontend.h'
has '^\| bb_compare \| ok'
has '^\| two_ranks_zero2 \| ok'
has '^\| sanitizer_racecheck \| ok'
grep -q 'compared 4' "$report" || fail "the comparison is not of three runs"
[[ $(grep -c '^| parity' "$report") -eq 11 ]] || fail "rows are missing or double: $(grep '^| parity' "$report")"
[[ $(sed -n 's/^| \(parity_[A-Za-z]*\).*/\1/p' "$report" | head -n 4 | uniq | tr '\n' ' ') == "parity_CudaBackend parity_CudaMatmul " ]] ||
  fail "parity's rows are out of order: $(grep '^| parity' "$report")"
grep -qx 'CudaCrash.\*:-CudaCrash.Dies' "$folder/filters" || fail "the rest of a suite that died was not run: $(cat "$folder/filters")"
[[ ! -e $folder/leaks ]] || fail "our library path reached others: $(cat "$folder/leaks")"
[[ $(tail -n 1 "$folder/unpacked/nvidia-test-gpu-80gb/gpt2_124m_vga.txt") == "$build/lib:$folder/site/nvidia/cu13/lib:$folder/site/nvidia/nccl/lib"* ]] ||
  fail "our programs' library path is $(tail -n 1 "$folder/unpacked/nvidia-test-gpu-80gb/gpt2_124m_vga.txt")"

# Libraries that were brought along, a build with cuDNN, and only some steps: the others' rows stay.
touch "$build/lib/libneeded.so"
unset PYTHONPATH
printf '  ✓ cuDNN attention \n  device auto       cuda\n  cuDNN attention   can be had (train.attention_backend)\n' > "$folder/doctor"
set +o pipefail
scripts/gpu_check --build "$build" --out "$folder/gpu" --only speed 2>&1 | head -n 0  # its reader goes away, it goes on
set -o pipefail
check --only doctor
[[ $status -eq 0 ]] || fail "doctor alone: $(cat "$folder/err")"
report=$folder/gpu/nvidia-test-gpu-80gb.md
has '^\| gpt2_124m_cudnn \| ok'
has '^\| parity_CudaMatmul \| '

# Ended in the middle of a step: the pack is whole and names it.
touch "$folder/patient"
rm -r "$pack" "$folder/gpu"
scripts/gpu_check --build "$build" --out "$folder/gpu" --pack "$pack" --only parity > "$folder/out" 2>&1 &
for _ in {1..200}; do
  ! grep -q 'RUN.*Hangs' "$folder"/gpu/nvidia-test-gpu-80gb/parity_EveryScore_CudaAttention_relu.txt 2> /dev/null || break
  sleep 0.05
done
kill $!
status=0
wait $! || status=$?
[[ $status -eq 143 ]] || fail "ended by SIGTERM with exit status $status"
tar -xzOf "$pack" nvidia-test-gpu-80gb.md | grep -q '^| parity_EveryScore_CudaAttention_relu | \*\*not done\*\*: stopped from outside' ||
  fail "the pack does not tell of the end: $(tar -xzOf "$pack" nvidia-test-gpu-80gb.md)"
[[ -z $(find "$folder" -maxdepth 1 -name 'pack.tar.gz.*') ]] || fail "a half-written pack stays"

printf '  device auto       cpu: no driver\n' > "$folder/doctor"
check
refused "does not use the GPU"

# A bundle of the programs here; it carries the libraries that the program needs but those that are left out.
PATH=$real_path
[[ -n ${SLUICE_BUILD:-} ]] || exit 0
mkdir -p "$folder/real"
cp "$SLUICE" "$folder/real/sluice"
scripts/gpu_bundle "$folder/bundle.tar.gz" --build "$folder/real" --without dnnl > "$folder/out" 2> "$folder/err" || fail "gpu_bundle: $(cat "$folder/err")"
tar -tzf "$folder/bundle.tar.gz" > "$folder/list"
for file in ./build/cuda/sluice ./build/cuda/lib/libsentencepiece ./scripts/gpu_check ./configs/bb/softmax.json; do
  grep -qF "$file" "$folder/list" || fail "the bundle lacks $file"
done
! grep -q libdnnl "$folder/list" || fail "--without left libdnnl in"
grep -q 'without cudnn_frontend.h' "$folder/err" || fail "nothing is said of cuDNN: $(cat "$folder/err")"
status=0
scripts/gpu_bundle "$folder/bundle.tar.gz" --build "$folder/nowhere" 2> "$folder/err" || status=$?
[[ $status -eq 2 ]] || fail "a bundle of nothing: $(cat "$folder/err")"
