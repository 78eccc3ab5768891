#!/usr/bin/env bash
# php: its own allocator off, so that each value is a malloc; extensions, which it loads with RTLD_DEEPBIND.
. "$(dirname "$0")/common.sh"
need php
cat >script.php <<'EOS'
<?php
$words = [];
for ($round = 0; $round < 3; $round++) {
    for ($i = 0; $i < 50000; $i++)
        $words["k$i"] = str_repeat(chr(97 + $i % 26), $i % 80) . $round;
    $objects = array_map(fn($k, $v) => (object)['k' => $k, 'v' => $v], array_keys($words), $words);
    usort($objects, fn($p, $q) => strcmp($p->v, $q->v) ?: strcmp($p->k, $q->k));
    echo md5(serialize($objects)), ' ', md5(json_encode($words)), ' ', preg_match_all('/a+0/', implode($words)), "\n";
}
echo class_exists('PDO') ? "PDO is loaded\n" : "no PDO\n";
EOS
same_with_and_without env USE_ZEND_ALLOC=0 php -d memory_limit=-1 script.php
same_with_and_without php -d memory_limit=-1 script.php
grep -q 'PDO is loaded' with.txt || fail 'no extension was loaded'
