#!/bin/sh
# run.sh SECONDS [TARGET…]: builds the targets with a stable compiler and runs each for so long, at low priority. Inputs
# that break a target are left in fuzz/artifacts; those that led somewhere new stay in fuzz/corpus.
set -eu
cd "$(dirname "$0")"
seconds=$1
shift
[ $# -gt 0 ] || set -- json yaml protobuf selectors strategic_patch quantity cel
host=$(rustc -vV | sed -n 's/^host: //p')
# What cargo-fuzz passes, without the address sanitizer, which only nightly compilers have.
export RUSTFLAGS="--cfg fuzzing -Cdebug-assertions -Ccodegen-units=1 -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
export CARGO_PROFILE_DEV_OPT_LEVEL=2 CARGO_PROFILE_DEV_DEBUG=0
${CARGO:-cargo} build --manifest-path Cargo.toml --target "$host" --target-dir target
for target in "$@"; do
  mkdir -p "corpus/$target" "artifacts/$target"
  nice -n 19 "target/$host/debug/$target" -max_total_time="$seconds" -rss_limit_mb=1500 -timeout=20 -max_len=65536 \
    -print_final_stats=1 -artifact_prefix="artifacts/$target/" "corpus/$target"
done
