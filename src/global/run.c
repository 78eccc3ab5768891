/*
 * run.c: see run.h.
 */
#include "run.h"
#include "segment.h"

static void set_units(struct segment *s, unsigned first, unsigned units)
{
    atomic_store_explicit(&s->run_units[first], (uint8_t)units, memory_order_relaxed);
}

void *run_alloc(size_t bytes, size_t alignment, bool *zeroed)
{
    struct units taken = segment_take(units_for(bytes), alignment);
    if (taken.units == 0)
        return NULL;
    char *p = segment_unit(taken.segment, taken.first);
    set_units(taken.segment, taken.first, taken.units);
    registry_set_word(p, UNIT_RUN);
    *zeroed = taken.zeroed;
    return p;
}

void run_free(void *p, bool comes_again)
{
    struct segment *s = segment_of(p);
    unsigned units = units_for(run_bytes(p));
    registry_set_word(p, UNIT_FREE);
    segment_return(s, segment_unit_of(p), units, comes_again);
}

size_t run_bytes(const void *p)
{
    return segment_run_bytes(segment_of(p), segment_unit_of(p));
}

bool run_resize(void *p, size_t bytes)
{
    struct segment *s = segment_of(p);
    unsigned first = segment_unit_of(p);
    unsigned have = units_for(run_bytes(p));
    unsigned want = units_for(bytes);
    bool zeroed;
    if (want > have && !segment_take_at(s, first + have, want - have, &zeroed))
        return false;
    set_units(s, first, want);
    if (want < have)
        segment_return(s, first + want, have - want, false);
    return true;
}
