/*
 * aligned: blocks aligned to 32 bytes up to a page, as vector code and direct I/O want them.
 */
#include "bench.h"

#include <stdlib.h>

#define KEPT 1000

static void work(struct bench_thread *t)
{
    void **kept = calloc(KEPT, sizeof *kept);
    for (unsigned i = 0; i % 64 != 0 || !bench_over(); i++) {
        void **at = &kept[bench_random(t) % KEPT];
        size_t alignment = (size_t)32 << bench_random(t) % 8;
        size_t n =
            bench_random(t) % 16 == 0 ? bench_between(t, 4096, 65536) : bench_between(t, 32, 1024);
        free(*at);
        if (posix_memalign(at, alignment, n) != 0)
            bench_fail("out of memory");
        *(char *)*at = 1;
        t->operations++;
    }
    for (int i = 0; i < KEPT; i++)
        free(kept[i]);
    free(kept);
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv, "aligned", NULL);
    bench_run(work);
    return 0;
}
