#!/usr/bin/env bash
# What only a GPU can show, in at most eight minutes: bash benchmarks/gpu_check.sh [FOLDER]. Results go to FOLDER, or $OUT, or gpu_check/.
# Each part has a time limit of its own, and a part that fails does not stop the others; the last line counts the failures.
set -u
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:-${OUT:-gpu_check}}")
work=$(mktemp -d)
mkdir -p "$out"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
failed=0

part() {  # NAME SECONDS COMMAND...: run a command with a time limit, and keep its output
  local name=$1 limit=$2 started=$SECONDS
  shift 2
  timeout --signal INT --kill-after 20 "$limit" "$@" >"$out/$name.txt" 2>&1
  local code=$?
  echo "$name: exit code $code after $((SECONDS - started)) s"
  return $code
}

nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv >"$out/gpu.txt" 2>&1
python -c 'import torch; assert torch.cuda.is_available(), "no GPU"; print(torch.__version__, torch.cuda.get_device_name())' || exit 2

# Cached images on the GPU against a bare step in bf16: images/s, peak memory.
part cache 110 python benchmarks/cache.py --images 20000 --folder "$work/images" || failed=$((failed + 1))
# Proxy training against bare steps, all included.
part rungs 60 python benchmarks/rungs.py --rounds 1 || failed=$((failed + 1))
# A search at full width on the same images.
part search 120 python -m t2tbuild search --data "$work/images/photos" --budget-macs 1200M --timeout 60s search.trials=4 \
  --out "$work/search" || failed=$((failed + 1))
cp "$work"/search/{report.json,candidates.csv,best.yaml} "$out" 2>/dev/null
# Training, interrupted and resumed.
training=(python -m t2tbuild train t2t_vit_7 --data "$work/images/photos" --image-size 64 --epochs 2 --out "$work/train")
part interrupted 25 "${training[@]}"
part resumed 60 "${training[@]}" || failed=$((failed + 1))
grep -q "training continues from\|is complete" "$out/resumed.txt" || failed=$((failed + 1))
# Latency and peak memory of the models on the GPU.
part bench 45 python -m t2tbuild bench t2t_vit_14 --device cuda --json || failed=$((failed + 1))
part memory 45 python benchmarks/memory.py || failed=$((failed + 1))

rm -rf "$work"
echo "failed parts: $failed"
exit $((failed > 0))
