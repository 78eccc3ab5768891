/*
 * outbuf.h: blocks on their way to slabs that are not the heap's own, gathered by slab, so that a chain of
 * them costs one CAS.
 *
 * A slot is found by the block's unit, without a look at any descriptor. What the buffer holds is
 * bounded: OUT_SLOTS slots of OUT_SLOT_BYTES or one block at most, and OUT_TICKS slow paths
 * and openings. The slots are allocated when the first is opened: they are twice what the rest of a heap takes,
 * and most threads free nothing of another's.
 *
 * SYNCHRONIZATION: owner only. The blocks in it are out, and pin their slabs.
 */
#ifndef HAK_OUTBUF_H
#define HAK_OUTBUF_H

#include "owned.h"

#define OUT_SLOTS      256u
#define OUT_SLOT_BYTES KIB(8)
#define OUT_TICKS      128u

struct out_slot {
    struct block *first; /* NULL: the slot holds nothing */
    uint32_t unit;       /* address >> UNIT_SHIFT; 0, NULL's, only as long as `room` is 0 */
    uint16_t last;       /* in granules from the unit's start: the last block of the chain */
    uint16_t room;       /* blocks that fit in still */
};

static_assert(sizeof(struct out_slot) == 16, "four a cache line");
static_assert(OUT_SLOT_BYTES / SIZE_GRANULE <= UINT16_MAX && UNIT_SIZE / SIZE_GRANULE <= UINT16_MAX,
              "counts and places fit");

struct outbuf {
    struct out_slot *slot;         /* constant once set: OUT_SLOTS of them; NULL: none yet */
    uint64_t open[OUT_SLOTS / 64]; /* a bit a slot that may hold blocks */
    uint32_t ticks;                /* slow paths, and slots opened, since the last flush */
};

/* How many blocks of a class one slot holds. */
extern const uint16_t outbuf_most[SIZE_CLASS_COUNT];

#define OUT_NO_UNIT UINT32_MAX /* of a closed slot: beyond all addresses that the system gives */

/* Neighbouring units have slots of their own, and so have the first units of neighbouring segments. */
HAK_INLINE unsigned outbuf_index(uintptr_t unit)
{
    return (unsigned)((unit ^ unit / UNITS_PER_SEGMENT) % OUT_SLOTS);
}

/* True if the slot was open for p's slab and took it. None is open for NULL, nor for what is not hakmem's. */
HAK_INLINE bool outbuf_add(struct outbuf *out, void *p)
{
    if (HAK_UNLIKELY(out->slot == NULL))
        return false;
    uintptr_t unit = (uintptr_t)p >> UNIT_SHIFT;
    struct out_slot *slot = &out->slot[outbuf_index(unit)];
    if (HAK_UNLIKELY(slot->unit != unit || slot->room == 0))
        return false;
    struct block *b = p;
    b->next = slot->first;
    atomic_signal_fence(memory_order_seq_cst);
    slot->first = b;
    atomic_signal_fence(
        memory_order_seq_cst); /* a fork that catches it here counts one too few: that is safe */
    slot->room--;
    return true;
}

/* True if the slot was empty and took it: all by itself too, with no look at the slab. */
bool outbuf_start(struct outbuf *out, unsigned class_no, void *p);
/* Opens a slot for p's slab, with p in it, after what the slot held was pushed. If there is no memory for
 * slots, p is pushed by itself. */
void outbuf_open(struct outbuf *out, struct owned *o, struct slab *s, void *p);
void outbuf_flush(struct outbuf *out, struct owned *o);
/* For slow paths: flushes at each OUT_TICKS-th. */
void outbuf_tick(struct outbuf *out, struct owned *o);

#endif
