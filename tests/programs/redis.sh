#!/usr/bin/env bash
# redis-server under redis-benchmark: the commands give right results, and nothing is lost.
. "$(dirname "$0")/common.sh"
need redis-server redis-cli redis-benchmark
port=$(free_port)
serve redis-server --bind 127.0.0.1 --port "$port" --save '' --appendonly no --io-threads 2 \
    --lazyfree-lazy-user-del yes --dir "$work"
cli() { redis-cli -h 127.0.0.1 -p "$port" "$@"; }
wait_for cli ping
uses_hakmem "$server"
redis-benchmark -h 127.0.0.1 -p "$port" -q -n 100000 -c 32 -P 8 -r 10000 -d 200 \
    -t set,get,incr,lpush,rpop,sadd,hset,zadd,mset >bench.txt 2>&1 || fail "$(tail -3 bench.txt)"
! grep -qi error bench.txt || fail "$(grep -i error bench.txt | head -3)"
awk 'BEGIN { for (i = 1; i <= 200; i++) { x = sprintf("%*s", i % 50 + 1, ""); gsub(" ", "x", x)
    print "SET key:" i " value-" i "-" x } }' | cli >/dev/null
for i in 1 50 200; do
    [ "$(cli get "key:$i")" = "value-$i-$(printf 'x%.0s' $(seq $((i % 50 + 1))))" ] || fail "key:$i is wrong"
done
cli debug change-repl-id >/dev/null
cli memory purge >/dev/null
cli bgsave >/dev/null
wait_for bash -c "redis-cli -h 127.0.0.1 -p $port info persistence | grep -q 'rdb_bgsave_in_progress:0'"
cli info persistence | grep -q 'rdb_last_bgsave_status:ok' || fail 'the forked save failed'
cli flushall >/dev/null
[ "$(cli dbsize)" = 0 ] || fail 'flushall left something'
cli shutdown nosave || true
wait "$server" || fail "redis-server ended with $?: $(tail -3 server.log)"
server=
