/*
 * meta.c: a bump allocator over chunks.
 *
 * SYNCHRONIZATION. `used` of a chunk is claimed by fetch_add; whoever overruns it maps the next
 * chunk and publishes it by CAS (release, read with acquire by the next claimer). Losers unmap
 * theirs.
 */
#include "meta.h"
#include "os.h"

#define CHUNK_BYTES MIB(1)

struct chunk {
    _Atomic(size_t) used; /* atomic; may run past the end */
};

static _Atomic(struct chunk *) current; /* atomic: release on publication, acquire on use */
static _Atomic(size_t) mapped;          /* atomic, relaxed: a statistic */

static struct chunk *next_chunk(struct chunk *full)
{
    struct chunk *fresh = os_map(CHUNK_BYTES);
    if (fresh == NULL)
        return NULL;
    atomic_store_explicit(&fresh->used, HAK_CACHE_LINE, memory_order_relaxed);
    if (!atomic_compare_exchange_strong_explicit(&current, &full, fresh, memory_order_acq_rel,
                                                 memory_order_acquire)) {
        os_unmap(fresh, CHUNK_BYTES);
        return full;
    }
    atomic_fetch_add_explicit(&mapped, CHUNK_BYTES, memory_order_relaxed);
    return fresh;
}

void *meta_alloc(size_t bytes)
{
    size_t need = align_up(bytes, HAK_CACHE_LINE);
    struct chunk *chunk = atomic_load_explicit(&current, memory_order_acquire);
    for (;;) {
        if (chunk != NULL) {
            size_t at = atomic_fetch_add_explicit(&chunk->used, need, memory_order_relaxed);
            if (at <= CHUNK_BYTES - need)
                return (char *)chunk + at;
        }
        chunk = next_chunk(chunk);
        if (chunk == NULL)
            return NULL;
    }
}

size_t meta_mapped(void)
{
    return atomic_load_explicit(&mapped, memory_order_relaxed);
}
