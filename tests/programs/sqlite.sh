#!/usr/bin/env bash
# sqlite3: tables, indices, joins, a transaction that is rolled back.
. "$(dirname "$0")/common.sh"
need sqlite3
cat >script <<'EOS'
create table a(id integer primary key, k text, v real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 200000)
insert into a select i, printf('%08x', i * 2654435761 % 4294967296), i / 7.0 from n;
create index ak on a(k);
select count(*), sum(v), min(k), max(k) from a;
select x.k, y.k from a x join a y on y.id = x.id * 2 where x.k like '00%' order by x.k limit 20;
begin; delete from a where id % 2 = 0; select count(*) from a; rollback;
select count(*), group_concat(substr(k, 1, 2)) from (select k from a order by k limit 300);
pragma integrity_check;
EOS
same_with_and_without sqlite3 :memory: '.read script'
same_with_and_without sqlite3 with.db 'create table t(x); insert into t values (1),(2); select sum(x) from t; drop table t;'
