/*
 * realloc: strings and vectors that grow by steps and by doubling, from 16 bytes to some MiB, and
 * shrink.
 */
#include "bench.h"

#include <stdlib.h>

#define VECTORS 200

struct vector {
    char *start;
    size_t bytes;
};

static void resize(struct bench_thread *t, struct vector *v, size_t bytes)
{
    v->start = realloc(v->start, bytes);
    if (v->start == NULL)
        bench_fail("out of memory");
    v->bytes = bytes;
    v->start[bytes - 1] = 1;
    t->operations++;
}

static void work(struct bench_thread *t)
{
    struct vector *vectors = calloc(VECTORS, sizeof *vectors);
    for (unsigned i = 0; i % 64 != 0 || !bench_over(); i++) {
        struct vector *v = &vectors[bench_random(t) % VECTORS];
        size_t most = (size_t)1 << bench_between(t, 8, bench_random(t) % 50 == 0 ? 22 : 14);
        if (v->bytes == 0)
            resize(t, v, 16);
        else if (v->bytes > most)
            resize(t, v, 16 + v->bytes / 8);
        else
            resize(t, v, i % 2 == 0 ? v->bytes * 2 : v->bytes + 64);
    }
    for (int i = 0; i < VECTORS; i++)
        free(vectors[i].start);
    free(vectors);
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv, "realloc", NULL);
    bench_run(work);
    return 0;
}
