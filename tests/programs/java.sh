#!/usr/bin/env bash
# java: starts, and runs a small program of many threads. Skipped where there is no Java; the second part
# where there is no compiler.
. "$(dirname "$0")/common.sh"
command -v java >/dev/null || exit 77
hak java -version 2>version.txt || fail "java -version: $(tail -3 version.txt)"
grep -qi 'version' version.txt || fail 'java -version says nothing'
command -v javac >/dev/null || exit 0
cat >Many.java <<'EOS'
import java.util.*;
import java.util.concurrent.*;
import java.util.zip.*;

public class Many {
    static long work(int seed) throws Exception {
        CRC32 crc = new CRC32();
        Random random = new Random(seed);
        for (int i = 0; i < 40; i++) {
            byte[] bytes = new byte[20000 + random.nextInt(20000)];
            for (int k = 0; k < bytes.length; k++) bytes[k] = (byte) (k % 50);
            Deflater deflater = new Deflater();
            deflater.setInput(bytes);
            deflater.finish();
            byte[] out = new byte[50000];
            int n = deflater.deflate(out);
            deflater.end();
            java.nio.ByteBuffer direct = java.nio.ByteBuffer.allocateDirect(n);
            direct.put(out, 0, n).flip();
            crc.update(direct);
        }
        return crc.getValue();
    }

    public static void main(String[] arguments) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(8);
        List<Future<Long>> results = new ArrayList<>();
        for (int i = 0; i < 64; i++) { final int seed = i; results.add(pool.submit(() -> work(seed))); }
        long sum = 0;
        for (Future<Long> result : results) sum = sum * 31 + result.get();
        pool.shutdown();
        System.out.println(sum);
    }
}
EOS
hak javac Many.java || fail 'javac'
same_with_and_without java -Xmx256m -cp . Many
