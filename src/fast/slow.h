/*
 * slow.h: what malloc and free call when the fast path does not do. Each ends by leaving the heap.
 *
 * malloc_slow, in order (before: a run that the heap has kept, by the short way):
 *   1. a sentinel, or a heap that another has seized (relief.h): find one to work with
 *   2. over 64 KiB: a run, or a whale
 *   3. my frees to others are sent off; who gets much of them is looked at (relief.h)
 *   4. a slab of mine with blocks left, or that others have freed into
 *   5. a SHARED slab
 *   6. a free unit, or a new segment
 *      (where the class is not in demand, 4 to 6 give few blocks, and the slab is nobody's again)
 *      (who has taken a few units relieves an idle heap before: relief.h)
 *   7. memory is out: all that is kept for later is given back, and once more from 3
 *   8. ENOMEM
 *
 * free_overflow: the bin is full, and some of it goes back. Or it is to keep none, for the heap
 * only frees blocks of the class: this one goes to the out-buffer.
 *
 * free_elsewhere, in order (free has kept the blocks of its own slabs and of nobody's, unless it
 * met a sentinel, or the unit is not near):
 *   1. NULL: nothing
 *   2. its slab has an open slot in the out-buffer: there
 *   3. not near, but own or nobody's: kept
 *   4. another heap's: into an empty slot, or with those that go by themselves
 *   5. not hakmem's: to the C library
 *   6. a sentinel, or a heap that is seized: find one to work with
 *   7. another heap's: what the slot holds, or those that wait, are sent off first; who gets much is
 *      looked at (relief.h)
 *   8. nobody's: claim the slab, and keep the block; or to the out-buffer, if the bin keeps none
 *   9. a run, a whale (before 6, a run that the heap keeps by the short way)
 *
 * SYNCHRONIZATION: all by the thread that entered.
 */
#ifndef HAK_SLOW_H
#define HAK_SLOW_H

#include "heap.h"

void *malloc_slow(size_t size, struct heap *entered);
void free_overflow(void *p, struct heap *h);
void free_elsewhere(void *p, struct heap *entered);

/* From the bin at a place, or else by `slow`; the heap is left. */
HAK_INLINE void *malloc_take(struct heap *h, size_t place, size_t size,
                             void *(*slow)(size_t size, struct heap *entered))
{
    void *p = heap_pop(h, place);
    if (HAK_UNLIKELY(p == NULL))
        return slow(size, h);
    heap_leave(h);
    return p;
}

/* Into the bin at a place; the heap is left. */
HAK_INLINE void free_keep(struct heap *h, size_t place, void *p)
{
    if (HAK_LIKELY(heap_push(h, place, p)))
        heap_leave(h);
    else
        free_overflow(p, h);
}

/* Blocks over 32 KiB, or aligned to more than 64 KiB. *zeroed: before, whether it is to read as
 * zero; after, whether it is known to. errno is set. */
void *large_alloc(size_t size, size_t alignment, bool *zeroed);
/* The same, over 1 MiB, for what has grown to it: a whale, if there is memory for one. */
void *large_alloc_to_grow(size_t size);
/* A whale for another that is to be so long, if it is better copied than extended; else NULL. errno
 * is kept. */
void *large_roomier(void *whale, size_t size);
/* Makes a run or whale of `bytes` smaller or larger, moving pages but no bytes; NULL if it would
 * change its tier, or cannot be done. */
void *large_resize(void *block, uintptr_t word, size_t bytes, size_t size);
/* Frees a run whose contents realloc has moved. Another length is wanted next: the heap does not keep
 * it, so that the next one may have its memory. */
void large_free_moved(void *run);
/* Gives back what is kept for later, everywhere, but for the memory of `keep` free units; false if
 * there was nothing. */
bool give_back_all(struct heap *work, long keep);

#endif
