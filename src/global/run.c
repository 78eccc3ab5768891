/*
 * run.c: see run.h.
 */
#include "run.h"
#include "segment.h"

void *run_alloc(size_t bytes, size_t alignment, bool *zeroed)
{
    struct units taken = segment_take(units_for(bytes), alignment);
    if (taken.units == 0)
        return NULL;
    char *p = segment_unit(taken.segment, taken.first);
    registry_set_word(p, unit_word_run(UNIT_RUN, taken.units));
    *zeroed = taken.zeroed;
    return p;
}

void run_free(void *p, bool comes_again)
{
    unsigned units = unit_word_units(registry_word(p));
    registry_set_word(p, UNIT_FREE);
    run_free_units(p, units, comes_again);
}

void run_free_units(void *p, unsigned units, bool comes_again)
{
    segment_return(segment_of(p), segment_unit_of(p), units, comes_again);
}

size_t run_bytes(const void *p)
{
    return unit_word_run_bytes(registry_word(p));
}

bool run_resize(void *p, size_t bytes)
{
    struct segment *s = segment_of(p);
    unsigned first = segment_unit_of(p);
    unsigned have = unit_word_units(registry_word(p));
    unsigned want = units_for(bytes);
    bool zeroed;
    if (want > have) {
        if (!segment_take_at(s, first + have, want - have, &zeroed))
            return false;
        segment_first_use(s, first + have, want - have);
    }
    registry_set_word(p, unit_word_run(UNIT_RUN, want));
    if (want < have)
        segment_return(s, first + want, have - want, false);
    return true;
}
