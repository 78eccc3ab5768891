/*
 * large: buffers of 16 KiB to 8 MiB, mostly of the lower sizes, of which a page in eight is
 * touched.
 */
#include "bench.h"

#include <stdlib.h>

#define KEPT 24

static void work(struct bench_thread *t)
{
    char *kept[KEPT] = {NULL};
    while (!bench_over()) {
        char **at = &kept[bench_random(t) % KEPT];
        free(*at);
        size_t most = (size_t)1 << bench_between(t, 15, bench_random(t) % 8 == 0 ? 23 : 19);
        size_t n = bench_between(t, most / 2, most);
        *at = bench_malloc(t, n);
        for (size_t i = 0; i < n; i += 32768)
            (*at)[i] = 1;
    }
    for (int i = 0; i < KEPT; i++)
        free(kept[i]);
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv, "large", NULL);
    bench_run(work);
    return 0;
}
