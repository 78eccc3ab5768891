/*
 * outbuf.h: blocks on their way to slabs that are not the heap's own, gathered by unit, so that a
 * chain of them costs one CAS.
 *
 * A slot is found by the block's unit, without a look at any descriptor. What the buffer holds is
 * bounded: as many slots of OUT_SLOT_BYTES at most, and as many slow paths, or openings by single
 * frees, between flushes. They are OUT_SLOTS_LEAST, or more where chains are short and few heaps
 * have a buffer in use: one thread that frees for many others meets hundreds of slabs, while many
 * such threads would hold much together, and each block in a slot pins its slab. Blocks so large
 * that a slot would hold but one are pushed at once.
 *
 * Where nearly all chains are of a few blocks, even with the most slots if no other buffer is in
 * use, as when a thread drops a large structure here and there, slots are of no use: for the next
 * round of sweeps each block goes by itself. OUT_WAITING of them wait for each other, so that their
 * slabs come into the cache together.
 *
 * The slots are allocated when the first is opened: they are several times what the rest of a heap
 * takes, and most threads free only what they might have allocated.
 *
 * Who goes idle keeps what was opened behind the last sweep. Of many that do so together this is
 * twice as little: a slot opened brings two to be flushed, not one.
 *
 * SYNCHRONIZATION: owner only; a count of the buffers in use is atomic. The blocks in it are out,
 * and pin their slabs.
 */
#ifndef HAK_OUTBUF_H
#define HAK_OUTBUF_H

#include "owned.h"

#define OUT_SLOTS_MOST  1024u
#define OUT_SLOTS_LEAST 256u
#define OUT_SLOTS_ALL   1024u /* of all buffers, unless that is less than the least of each */
#define OUT_SLOT_BYTES  KIB(8)
#define OUT_WAITING     32u /* blocks */

struct out_slot {
    struct block *first; /* NULL: the slot holds nothing */
    uint32_t unit;       /* address >> UNIT_SHIFT; 0, NULL's, only as long as `room` is 0 */
    uint16_t last;       /* in granules from the unit's start: the last block of the chain */
    uint16_t room;       /* blocks that fit in still */
};

static_assert(sizeof(struct out_slot) == 16, "four a cache line");
static_assert(OUT_SLOT_BYTES / SIZE_GRANULE <= UINT16_MAX && UNIT_SIZE / SIZE_GRANULE <= UINT16_MAX,
              "counts and places fit");

struct out_slots {
    uint64_t open[OUT_SLOTS_MOST / 64]; /* a bit a slot that may hold blocks */
    struct block *waiting[OUT_WAITING]; /* by themselves */
    struct out_slot slot[OUT_SLOTS_MOST];
};

struct outbuf {
    struct out_slots *slots; /* constant once set; NULL: none yet */
    uint32_t last_slot;  /* as many are used, less 1: a power of two less 1; 0: it is not in use */
    uint32_t ticks;      /* slow paths, and slots opened, since the last sweep */
    uint32_t ticks_most; /* until the next; 0 while it is not in use */
    uint32_t swept;      /* the slot at which the next sweep begins */
    uint32_t chains, short_chains; /* sent off in this round of sweeps */
    uint32_t small_chains;         /* of them: of few blocks, or of one */
    uint32_t waiting;              /* how many wait by themselves */
    bool scatters; /* in this round blocks go by themselves: they are of so many slabs */
};

/* How many blocks of a class one slot holds. */
extern const uint16_t outbuf_most[SIZE_CLASS_COUNT];

#define OUT_NO_UNIT UINT32_MAX /* of a closed slot: beyond all addresses that the system gives */

/* Neighbouring units have slots of their own, and so have the first units of neighbouring segments.
 * Where the number of slots changes, a block's slot does: what were in the old one, as in the child
 * of a fork, would wait there until the next flush. */
HAK_INLINE unsigned outbuf_index(const struct outbuf *out, uintptr_t unit)
{
    return (unsigned)(unit ^ unit / UNITS_PER_SEGMENT) & out->last_slot;
}

/* True if the slot was open for p's slab and took it. None is open for NULL, nor for what is not
 * hakmem's. */
HAK_INLINE bool outbuf_add(struct outbuf *out, void *p)
{
    if (HAK_UNLIKELY(out->slots == NULL))
        return false;
    uintptr_t unit = (uintptr_t)p >> UNIT_SHIFT;
    struct out_slot *slot = &out->slots->slot[outbuf_index(out, unit)];
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

/* True if it is with the blocks that go by themselves now, or opened an empty slot: with no look at
 * the slab. */
bool outbuf_start(struct outbuf *out, unsigned class_no, void *p);
/* Opens a slot for p's slab, with p in it, after what the slot held was pushed. If p is large, or
 * there is no memory for slots, p is pushed by itself. */
void outbuf_open(struct outbuf *out, struct owned *o, struct slab *s, void *p);
void outbuf_flush(struct outbuf *out, struct owned *o);
void outbuf_sweep(struct outbuf *out, struct owned *o);

HAK_INLINE bool outbuf_is_time_to_sweep(struct outbuf *out)
{
    return ++out->ticks > out->ticks_most;
}

/* For slow paths: flushes some slots every so often, and all in turn. */
HAK_INLINE void outbuf_tick(struct outbuf *out, struct owned *o)
{
    if (out->last_slot != 0 && outbuf_is_time_to_sweep(out))
        outbuf_sweep(out, o);
}

/* It is empty, and not in use any more. */
void outbuf_leave(struct outbuf *out);
/* In the child of a fork, for who vanished inside of it: each slot that has blocks is open,
 * whatever the bits say. */
void outbuf_mend(struct outbuf *out);
/* In the child of a fork: no other is in use (NULL: none at all). */
void outbuf_only_user(const struct outbuf *out);
/* The same: who vanished may have had it in use, and now the caller has. */
void outbuf_adopt(const struct outbuf *out);

#endif
