#!/usr/bin/env bash
# bash: arrays, substitutions, pipelines and subshells.
. "$(dirname "$0")/common.sh"
need bash
cat >script <<'EOS'
declare -A seen
for i in {1..20000}; do a[i % 500]="${a[i % 500]:0:200}$i"; seen[k$((i % 300))]=$i; done
for i in {1..100}; do x=$( (echo "$i"; echo "${a[i]}") | tail -n 1 | cut -c 1-50); echo "$x"; done
echo "${#a[@]} ${#seen[@]} ${seen[k7]}"
for i in {1..30}; do (exit $((i % 3))) & done; wait
printf '%s\n' "${a[@]}" | wc -c
EOS
same_with_and_without bash script
