/*
 * walk: statistics while all that they count comes and goes.
 *
 * Why: a walk looks at segments, slabs and whales that it does not own, and that are filled,
 * emptied and unmapped meanwhile. How: two threads take statistics, by mallinfo2, mallinfo and
 * malloc_info; three make and free blocks of every tier, in bursts, each its own. The first thread
 * keeps some blocks of each tier all the time: no figure may be less than those. Edges:
 * rcu_assign_pointer in registry_publish to rcu_dereference in walk_leaf; the note of a reader;
 * `owner` from find_free to count_slab; what is retired against the readers' counters. How long: 2
 * s.
 */
#include "stress.h"

#include <stdlib.h>
#include <string.h>

#define THREADS   5
#define WALKERS   2
#define BURST     256
#define KEPT      64
#define SLAB_KEPT 4000
#define RUN_KEPT  200000
#define BIG_KEPT  ((size_t)5 << 20)
#define SEGMENT   ((size_t)4 << 20)

static void check_figures(const struct mallinfo2 *m)
{
    if (m->arena % SEGMENT != 0 || m->arena < KEPT * (SLAB_KEPT + RUN_KEPT))
        stress_fail("mallinfo2: arena is %zu", m->arena);
    if (m->hblks < 2 || m->hblkhd < 2 * BIG_KEPT)
        stress_fail("mallinfo2: %zu whales of %zu bytes, but two are kept", m->hblks, m->hblkhd);
    if (m->uordblks < KEPT * (SLAB_KEPT + RUN_KEPT))
        stress_fail("mallinfo2: %zu bytes in use, less than what is kept", m->uordblks);
    if (m->fordblks > m->arena)
        stress_fail("mallinfo2: %zu bytes free of %zu", m->fordblks, m->arena);
}

static void check_text(char *text, size_t size)
{
    static const char first[] = "<malloc version=", last[] = "</malloc>\n";
    FILE *stream = fmemopen(text, size, "w");
    if (stream == NULL || hak_malloc_info(0, stream) != 0 || fclose(stream) != 0)
        stress_fail("malloc_info failed");
    size_t length = strlen(text);
    if (strncmp(text, first, strlen(first)) != 0 || length < strlen(last) ||
        strcmp(text + length - strlen(last), last) != 0)
        stress_fail("malloc_info wrote something else: %s", text);
}

/* Counts how often a segment came or went since the last look. */
static void walk(struct worker *w)
{
    char *text = malloc(1 << 16);
    size_t arena = 0;
    while (!stress_over(w)) {
        struct mallinfo2 m = hak_mallinfo2();
        check_figures(&m);
        w->met += m.arena != arena;
        arena = m.arena;
        if (rng_below(&w->rng, 8) == 0)
            check_text(text, 1 << 16);
        if (hak_mallinfo().hblks < 2)
            stress_fail("mallinfo: less than two whales");
    }
    free(text);
}

static size_t burst_size(struct rng *rng)
{
    uint64_t dice = rng_below(rng, 100);
    if (dice == 0)
        return ((size_t)2 << 20) + rng_below(rng, 4u << 20);
    return dice < 30 ? 32769 + rng_below(rng, 900000) : rng_slab_size(rng);
}

static void churn(struct worker *w)
{
    static void *blocks[THREADS][BURST];
    void **mine = blocks[w->number];
    while (!stress_over(w)) {
        for (unsigned i = 0; i < BURST; i++) {
            size_t n = burst_size(&w->rng);
            mine[i] = block_make_part(w, n, n < 4096 ? n : 4096);
        }
        for (unsigned i = 0; i < BURST; i++)
            block_free(mine[i]);
    }
}

static void body(struct worker *w)
{
    if (w->number < WALKERS)
        walk(w);
    else
        churn(w);
}

int main(int argc, char **argv)
{
    static void *kept[2 * KEPT + 2];
    stress_begin(argc, argv, "walk");
    stress_expect(2, "changes of the number of segments", 2);
    for (unsigned i = 0; i < 2 * KEPT; i++)
        kept[i] = block_make(stress_main(), i < KEPT ? SLAB_KEPT : RUN_KEPT);
    for (unsigned i = 2 * KEPT; i < 2 * KEPT + 2; i++)
        kept[i] = block_make(stress_main(), BIG_KEPT);
    stress_run(THREADS, body, NULL);
    for (unsigned i = 0; i < 2 * KEPT + 2; i++)
        block_free(kept[i]);
    return stress_end();
}
