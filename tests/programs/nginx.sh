#!/usr/bin/env bash
# nginx under wrk: every answer is a 200, and a file comes as it is.
. "$(dirname "$0")/common.sh"
need nginx wrk curl
port=$(free_port)
mkdir site logs
head -c 300000 /dev/urandom >site/file
echo hello >site/index.html
cat >nginx.conf <<EOS
worker_processes 2;
daemon off;
pid $work/nginx.pid;
error_log $work/logs/error.log;
user $(id -un);
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path $work/logs; proxy_temp_path $work/logs; fastcgi_temp_path $work/logs;
  uwsgi_temp_path $work/logs; scgi_temp_path $work/logs;
  gzip on; gzip_types *; gzip_min_length 1;
  server { listen 127.0.0.1:$port; root $work/site; }
}
EOS
serve nginx -p "$work" -c "$work/nginx.conf"
wait_for curl -sf "http://127.0.0.1:$port/"
uses_hakmem "$server"
curl -sf "http://127.0.0.1:$port/file" | cmp - site/file || fail 'the file differs'
curl -sf --compressed "http://127.0.0.1:$port/file" | cmp - site/file || fail 'the compressed file differs'
wrk -t 2 -c 32 -d 3 -H 'Accept-Encoding: gzip' "http://127.0.0.1:$port/" >wrk.txt
grep -q 'requests in' wrk.txt || fail 'wrk did not run'
! grep -qE 'Non-2xx|Socket errors' wrk.txt || fail "$(grep -E 'Non-2xx|Socket errors' wrk.txt)"
kill -QUIT "$server"
wait "$server" || fail "nginx ended with $?: $(tail -3 logs/error.log)"
server=
! grep -qE 'signal|emerg|alert' logs/error.log || fail "$(grep -E 'signal|emerg|alert' logs/error.log | head -3)"
