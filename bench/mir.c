/*
 * mir: a compiler's intermediate representation. Each function compiled takes two or three arenas
 * of the 256 KiB class and some thousand medium nodes; passes replace a third of the nodes; all
 * goes at the end but for a summary, which stays for a while.
 */
#include "bench.h"

#include <stdlib.h>

#define NODES     2000
#define SUMMARIES 64

static void one_pass(struct bench_thread *t, char **node)
{
    for (int i = 0; i < NODES; i++)
        if (bench_random(t) % 3 == 0) {
            char *better = bench_malloc(t, bench_between(t, 64, 1500));
            free(node[i]);
            node[i] = better;
        }
}

static void compile_function(struct bench_thread *t, char **node, char **summary)
{
    char *arena[3];
    for (int i = 0; i < 3; i++)
        arena[i] = bench_malloc(t, bench_between(t, 200000, 262144));
    for (int i = 0; i < NODES; i++)
        node[i] = bench_malloc(t, bench_between(t, 64, 1500));
    for (int pass = 0; pass < 4; pass++)
        one_pass(t, node);
    char **old = &summary[bench_random(t) % SUMMARIES];
    free(*old);
    *old = bench_malloc(t, bench_between(t, 1000, 20000));
    for (int i = 0; i < NODES; i++)
        free(node[i]);
    for (int i = 0; i < 3; i++)
        free(arena[i]);
}

static void work(struct bench_thread *t)
{
    char **node = calloc(NODES, sizeof *node);
    char **summary = calloc(SUMMARIES, sizeof *summary);
    while (!bench_over())
        compile_function(t, node, summary);
    for (int i = 0; i < SUMMARIES; i++)
        free(summary[i]);
    free(summary);
    free(node);
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv, "mir", NULL);
    bench_run(work);
    return 0;
}
