/*
 * outbuf.h: frees of blocks that other heaps own, gathered by slab, so that a chain of them costs one
 * CAS.
 *
 * A slot is found by the block's unit, without a look at any descriptor. What the buffer holds is
 * bounded: OUT_SLOTS slots of at most OUT_SLOT_BYTES or one block. Every slow path flushes it.
 *
 * SYNCHRONIZATION: owner only. The blocks in it are out, and pin their slabs.
 */
#ifndef HAK_OUTBUF_H
#define HAK_OUTBUF_H

#include "owned.h"

#define OUT_SLOTS      32u
#define OUT_SLOT_BYTES KIB(8)

struct out_slot {
    uintptr_t unit; /* address >> UNIT_SHIFT; 0 if never used, which is no block's */
    struct block *first;
    struct block *last;
    uint32_t count;
    uint32_t most; /* 0: closed */
};

struct outbuf {
    struct out_slot slot[OUT_SLOTS];
    uint32_t open; /* a bit a slot that holds blocks */
};

static_assert(OUT_SLOTS <= 32, "`open` has a bit a slot");

HAK_INLINE struct out_slot *outbuf_slot(struct outbuf *out, uintptr_t unit)
{
    return &out->slot[unit % OUT_SLOTS];
}

/* True if the slot was open for p's slab and took it. p is not NULL. */
HAK_INLINE bool outbuf_add(struct outbuf *out, void *p)
{
    uintptr_t unit = (uintptr_t)p >> UNIT_SHIFT;
    struct out_slot *slot = outbuf_slot(out, unit);
    if (HAK_UNLIKELY(slot->unit != unit || slot->count >= slot->most))
        return false;
    struct block *b = p;
    b->next = slot->first;
    slot->first = b;
    slot->count++;
    return true;
}

/* Opens a slot for p's slab, with p in it, after what the slot held was pushed. */
void outbuf_open(struct outbuf *out, struct owned *o, struct slab *s, void *p);
void outbuf_flush(struct outbuf *out, struct owned *o);

#endif
