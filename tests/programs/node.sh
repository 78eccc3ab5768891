#!/usr/bin/env bash
# node: worker threads, buffers, JSON.
. "$(dirname "$0")/common.sh"
need node
cat >script.js <<'EOS'
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto');
if (isMainThread) {
  const results = [];
  let left = 8;
  for (let i = 0; i < 8; i++) {
    const worker = new Worker(__filename, { workerData: i });
    worker.on('message', (m) => { results[i] = m; });
    worker.on('error', (e) => { console.log('error', e); process.exit(1); });
    worker.on('exit', () => { if (--left === 0) console.log(JSON.stringify(results)); });
  }
} else {
  let text = '';
  for (let i = 0; i < 300; i++) {
    const o = JSON.parse(JSON.stringify({ i, list: Array.from({ length: 500 }, (_, k) => 'v' + k * workerData) }));
    text = crypto.createHash('sha256').update(text + JSON.stringify(o)).update(Buffer.alloc(200000, i)).digest('hex');
  }
  parentPort.postMessage(text);
}
EOS
same_with_and_without node script.js
