/*
 * block.h: what is known of a block from its address, for the entry points that ask.
 *
 * SYNCHRONIZATION: the caller has the block, which pins all that is read.
 */
#ifndef HAK_BLOCK_H
#define HAK_BLOCK_H

#include "../global/os.h"
#include "../global/run.h"
#include "../global/segment.h"
#include "../global/whale.h"

/* `word` is the one of p's unit, and not UNIT_FOREIGN. */
HAK_INLINE size_t block_bytes(const void *p, uintptr_t word)
{
    switch (unit_word_kind(word)) {
    case UNIT_FREE:
    case UNIT_KEPT:
        os_die("%p is not allocated (was it freed?); aborting", p);
    case UNIT_RUN:
        return unit_word_run_bytes(word);
    case UNIT_WHALE:
        return whale_bytes(p);
    default:
        return slab_block_bytes(slab_of(p));
    }
}

#endif
