#!/usr/bin/env bash
# git: commits, clone, gc, log and fsck of a local repository.
. "$(dirname "$0")/common.sh"
need git perl
export HOME=$work GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
git config --global user.name tester
git config --global user.email tester@localhost
git config --global init.defaultBranch main
hak git init -q repository
cd repository
for round in 1 2 3 4 5; do
    perl -e 'my $r = shift; for my $i (1..400) { open my $f, ">", "file$i"; print $f "line $_ of $i in $r\n" x (1 + $i % 5) for 1..60 }' "$round"
    hak git add -A
    hak git commit -qm "round $round"
done
cd ..
hak git clone -q --no-local repository clone
cd clone
hak git -c pack.threads=4 gc -q --aggressive --prune=now
hak git -c pack.threads=4 repack -qadf
hak git fsck --full --strict 2>&1 | grep -v '^notice' >../fsck.txt || true
[ ! -s ../fsck.txt ] || fail "fsck: $(head -3 ../fsck.txt)"
[ "$(hak git log --oneline | wc -l)" = 5 ] || fail 'log shows other commits'
[ "$(hak git rev-parse HEAD)" = "$(git -C ../repository rev-parse HEAD)" ] || fail 'the clone differs'
hak git log -p --stat >../with.txt
git log -p --stat >../without.txt
cmp ../with.txt ../without.txt || fail 'git log prints something else'
