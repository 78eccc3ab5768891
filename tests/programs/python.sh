#!/usr/bin/env bash
# python3: threads, subprocess, multiprocessing, json.
. "$(dirname "$0")/common.sh"
need /usr/bin/python3
cat >script.py <<'EOS'
import hashlib, json, multiprocessing, subprocess, threading

def documents(n):
    return json.dumps([{"id": i, "tags": ["t%d" % (i % 7)] * (i % 9), "f": i / 3} for i in range(n)])

def work(n):
    text = documents(n)
    again = json.dumps(json.loads(text))
    return hashlib.sha256(again.encode()).hexdigest()

if __name__ == "__main__":
    results = [None] * 8
    def run(i):
        results[i] = work(2000 + i)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for t in threads: t.start()
    for t in threads: t.join()
    print(results)
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(4) as pool:
            print(pool.map(work, range(500, 520)))
    print([subprocess.run(["echo", str(i)], capture_output=True).stdout for i in range(40)])
    blob = bytearray()
    for i in range(3000):
        blob += bytes([i % 256]) * 5000
    print(hashlib.sha256(blob).hexdigest())
EOS
same_with_and_without env PYTHONMALLOC=malloc /usr/bin/python3 script.py
same_with_and_without /usr/bin/python3 script.py
