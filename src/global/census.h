/*
 * census.h: what hakmem holds, counted by walking the registry.
 *
 * SYNCHRONIZATION: an RCU read section around the walk; each figure is read on its own, with
 * relaxed loads, while others change them. Not for malloc or free.
 */
#ifndef HAK_CENSUS_H
#define HAK_CENSUS_H

#include "size_class.h"

struct census_class {
    size_t slabs;
    size_t used; /* blocks out: in use, in bins, on their way */
    size_t made; /* blocks cut so far */
};

struct census {
    struct census_class class[SIZE_CLASS_COUNT];
    size_t segments;
    size_t free_units;
    size_t dirty_units; /* free, and holding memory */
    size_t runs;
    size_t run_bytes;
    size_t whales;
    size_t whale_bytes;
    size_t cached_bytes; /* of freed whales */
    size_t kept_bytes;   /* of freed runs, which heaps keep for themselves */
    size_t meta_bytes;
};

void census_take(struct census *census);
/* In use, and not in the cache. */
HAK_INLINE size_t census_whales_used(const struct census *census)
{
    return census->whale_bytes - min_size(census->cached_bytes, census->whale_bytes);
}

/* Over all tiers, but for `in_bins` bytes of the slabs' blocks. */
size_t census_used_bytes(const struct census *census, size_t in_bins);

#endif
