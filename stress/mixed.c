/*
 * mixed: everything at once.
 *
 * Why: faults hide between the parts. How: eight threads swap blocks of all sizes with a shared table,
 * so that most blocks are freed, reallocated or checked by a thread that did not make them; one in a
 * thousand operations trims, one in a hundred reallocates, some are aligned or zeroed.
 */
#include "stress.h"

#include <string.h>

#define THREADS 8
#define TABLE   4096

static _Atomic(void *) table[TABLE];

static void *make(struct worker *w)
{
    size_t n = rng_size(&w->rng);
    uint64_t dice = rng_below(&w->rng, 32);
    if (dice > 1)
        return block_make(w, n);
    void *p =
        dice == 0 ? hak_calloc(1, n) : hak_aligned_alloc((size_t)16 << rng_below(&w->rng, 14), n);
    if (p == NULL)
        stress_fail("out of memory at %zu bytes", n);
    for (size_t i = 0; dice == 0 && i < n; i++)
        if (((char *)p)[i] != 0)
            stress_fail("hak_calloc(1, %zu): byte %zu is not zero", n, i);
    block_stamp(w, p, n);
    return p;
}

static void *regrow(struct worker *w, void *p)
{
    struct stamp before, after;
    size_t n = rng_size(&w->rng);
    memcpy(&before, p, sizeof before);
    void *moved = hak_realloc(p, n);
    if (moved == NULL)
        stress_fail("out of memory at %zu bytes", n);
    memcpy(&after, moved, sizeof after);
    if (memcmp(&before, &after, sizeof before) != 0)
        stress_fail("hak_realloc lost the contents");
    block_stamp(w, moved, n);
    return moved;
}

static void body(struct worker *w)
{
    while (!stress_over(w)) {
        void *mine = make(w);
        void *theirs = atomic_exchange(&table[rng_below(&w->rng, TABLE)], mine);
        uint64_t dice = rng_below(&w->rng, 1000);
        if (theirs == NULL)
            continue;
        block_check(theirs);
        if (dice < 10)
            theirs = regrow(w, theirs);
        block_free(theirs);
        if (dice == 999)
            hak_malloc_trim(0);
    }
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "mixed");
    stress_run(THREADS, body, NULL);
    for (unsigned i = 0; i < TABLE; i++)
        if (table[i] != NULL)
            block_free(table[i]);
    return stress_end();
}
