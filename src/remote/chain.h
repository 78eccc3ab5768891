/*
 * chain.h: how a chain of freed blocks carries its own length through a remote stack.
 *
 * Who pushes a chain writes, into the second word of its first block, how many blocks it has and
 * where the last one is. Who pops all can then take the chains over one by one, without walking
 * blocks that are cold. A count beside the stack's head could not be read together with it (ABA).
 *
 * SYNCHRONIZATION: written before the push that releases it, read after the pop that acquires it.
 */
#ifndef HAK_CHAIN_H
#define HAK_CHAIN_H

#include "../global/slab.h"

#define CHAIN_COUNT_BITS 16

static_assert(SIZE_SLAB_BYTES / SIZE_GRANULE < (1u << CHAIN_COUNT_BITS),
              "a slab's blocks can be counted");

HAK_INLINE void chain_label(struct chain chain)
{
    chain.first->chain = (uint64_t)(uint32_t)chain.last << CHAIN_COUNT_BITS | chain.count;
}

/* The labelled chain that starts at `first`. */
HAK_INLINE struct chain chain_read(struct block *first)
{
    uint64_t label = first->chain;
    return (struct chain){first, (int32_t)(label >> CHAIN_COUNT_BITS),
                          (uint32_t)(label & ((1u << CHAIN_COUNT_BITS) - 1))};
}

#endif
