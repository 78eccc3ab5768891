/*
 * vm: an interpreter. Each script gets a stack and a heap of the 2 MiB class, of which it touches a
 * part; it makes small objects, strings that grow and tables that double, and sweeps most of them
 * now and then.
 */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

#define OBJECTS 4000

struct machine {
    char *stack, *heap, *table;
    size_t table_bytes;
    char *object[OBJECTS];
};

static void make_object(struct bench_thread *t, struct machine *m)
{
    char **at = &m->object[bench_random(t) % OBJECTS];
    free(*at);
    *at = bench_malloc(t, bench_random(t) % 16 == 0 ? bench_between(t, 256, 4000)
                                                    : bench_between(t, 16, 160));
}

static void grow_table(struct bench_thread *t, struct machine *m)
{
    m->table_bytes = m->table_bytes < 400000 ? m->table_bytes * 2 : 64;
    m->table = realloc(m->table, m->table_bytes);
    m->table[m->table_bytes - 1] = 1;
    t->operations++;
}

static void sweep(struct bench_thread *t, struct machine *m)
{
    for (int i = 0; i < OBJECTS; i++)
        if (bench_random(t) % 10 < 7) {
            free(m->object[i]);
            m->object[i] = NULL;
        }
}

static void run_script(struct bench_thread *t)
{
    struct machine *m = calloc(1, sizeof *m);
    m->stack = bench_malloc(t, bench_between(t, 1900000, 2097152));
    m->heap = bench_malloc(t, bench_between(t, 1900000, 2097152));
    memset(m->stack, 1, 60000);
    memset(m->heap, 1, 200000);
    m->table_bytes = 64;
    for (int step = 0; step < 20000; step++) {
        make_object(t, m);
        if (step % 100 == 0)
            grow_table(t, m);
        if (step % 4000 == 3999)
            sweep(t, m);
    }
    for (int i = 0; i < OBJECTS; i++)
        free(m->object[i]);
    free(m->table);
    free(m->heap);
    free(m->stack);
    free(m);
}

static void work(struct bench_thread *t)
{
    while (!bench_over())
        run_script(t);
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv, "vm", NULL);
    bench_run(work);
    return 0;
}
