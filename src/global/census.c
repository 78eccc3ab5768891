/*
 * census.c: see census.h.
 */
#include "census.h"
#include "meta.h"
#include "segment.h"
#include "whale.h"

static void count_slab(struct census *c, struct slab *s)
{
    unsigned class_no = slab_class(s);
    if (atomic_load_explicit(&s->owner, memory_order_acquire) == SLAB_FREE)
        return;
    c->class[class_no].slabs++;
    c->class[class_no].used += slab_used(s);
    c->class[class_no].made += slab_carved(s);
}

static void count_unit(struct census *c, struct segment *s, unsigned unit)
{
    uintptr_t word = registry_word(segment_unit(s, unit));
    if (unit_word_kind(word) == UNIT_RUN) {
        c->runs++;
        c->run_bytes += unit_word_run_bytes(word);
    } else if (unit_word_kind(word) == UNIT_KEPT) {
        c->kept_bytes += unit_word_run_bytes(word);
    } else if (unit_word_is_slab(word)) {
        count_slab(c, &s->slab[unit]);
    }
}

static void count_segment(struct census *c, struct segment *s)
{
    uint64_t free = atomic_load_explicit(&s->free, memory_order_relaxed);
    c->segments++;
    c->free_units += (size_t)__builtin_popcountll(free);
    for (unsigned unit = 0; unit < UNITS_PER_SEGMENT; unit++)
        if ((free >> unit & 1) == 0)
            count_unit(c, s, unit);
}

static void count_region(struct region *region, void *context)
{
    struct census *c = context;
    if (region->kind == REGION_SEGMENT) {
        count_segment(c, (struct segment *)(void *)region);
    } else {
        c->whales++;
        c->whale_bytes += region_size(region);
    }
}

void census_take(struct census *census)
{
    *census = (struct census){0};
    registry_walk(count_region, census);
    census->dirty_units = (size_t)segment_dirty_units();
    census->cached_bytes = whale_cached_bytes();
    census->meta_bytes = meta_mapped();
}

/* What is in bins was counted at another moment, and may be more than was out then. */
size_t census_used_bytes(const struct census *census, size_t in_bins)
{
    size_t in_slabs = 0;
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        in_slabs += census->class[i].used * size_class_bytes[i];
    return in_slabs - min_size(in_bins, in_slabs) + census->run_bytes + census_whales_used(census);
}
