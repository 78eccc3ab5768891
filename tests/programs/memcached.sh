#!/usr/bin/env bash
# memcached under a load of eight connections: what was set is what is got.
. "$(dirname "$0")/common.sh"
need memcached /usr/bin/python3
port=$(free_port)
user=()
[ "$(id -u)" != 0 ] || user=(-u root)
serve memcached "${user[@]}" -l 127.0.0.1 -p "$port" -U 0 -t 4 -m 64
cat >load.py <<'EOS'
import random, socket, sys, threading

def load(number, port, failures):
    r = random.Random(number)
    s = socket.create_connection(("127.0.0.1", port), timeout=20)
    f = s.makefile("rwb")
    mine = {}
    for i in range(6000):
        key = b"k%d-%d" % (number, r.randrange(500))
        if r.random() < 0.5:
            value = bytes([65 + i % 26]) * r.randrange(1, 4000)
            f.write(b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value)); f.flush()
            if f.readline() != b"STORED\r\n": failures.append("not stored")
            mine[key] = value
        else:
            f.write(b"get %s\r\n" % key); f.flush()
            line = f.readline()
            if line.startswith(b"VALUE"):
                n = int(line.split()[3])
                value = f.read(n + 2)[:-2]
                f.readline()
                if value != mine.get(key): failures.append("wrong value")
            elif line != b"END\r\n": failures.append("wrong answer %r" % line)
            elif key in mine: failures.append("lost")
    s.close()

failures = []
threads = [threading.Thread(target=load, args=(i, int(sys.argv[1]), failures)) for i in range(8)]
for t in threads: t.start()
for t in threads: t.join()
sys.exit("%d failures, the first: %s" % (len(failures), failures[0]) if failures else 0)
EOS
wait_for bash -c "echo version >/dev/tcp/127.0.0.1/$port"
uses_hakmem "$server"
/usr/bin/python3 load.py "$port" || fail 'the load found wrong values'
kill -TERM "$server"
wait "$server" || [ $? = 143 ] || fail "memcached ended with $?"
server=
