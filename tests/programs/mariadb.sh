#!/usr/bin/env bash
# mariadb under its own bench, mariadb-slap: 16 connections, and a table that holds what was put there.
. "$(dirname "$0")/common.sh"
need mariadbd mariadb mariadb-slap mariadb-install-db
me=$(id -un)
hak mariadb-install-db --no-defaults --user="$me" --datadir="$work/data" --force --auth-root-authentication-method=normal \
    >install.log 2>&1 || fail "$(tail -3 install.log)"
port=$(free_port)
serve mariadbd --no-defaults --user="$me" --datadir="$work/data" --socket="$work/s" --skip-name-resolve --bind-address=127.0.0.1 \
    --port="$port" --pid-file="$work/pid" --innodb-buffer-pool-size=32M
sql() { mariadb --no-defaults -uroot -h 127.0.0.1 -P "$port" -N -e "$1"; }
wait_for sql 'select 1'
uses_hakmem "$server"
mariadb-slap --no-defaults -uroot -h 127.0.0.1 -P "$port" --auto-generate-sql --auto-generate-sql-load-type=mixed \
    --auto-generate-sql-add-autoincrement --concurrency=16 --number-of-queries=4000 >slap.txt 2>&1 ||
    fail "$(tail -3 slap.txt)"
sql 'create database d; use d; create table t (i int primary key, s varchar(200)); insert into t select seq, repeat("x", seq % 200) from seq_1_to_20000;'
[ "$(sql 'select count(*), sum(length(s)) from d.t')" = "$(printf '20000\t1990000')" ] ||
    fail "the table holds something else: $(sql 'select count(*), sum(length(s)) from d.t')"
mariadb-admin --no-defaults -uroot -h 127.0.0.1 -P "$port" shutdown
wait "$server" || fail "mariadbd ended with $?: $(tail -3 server.log)"
server=
