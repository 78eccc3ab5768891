/*
 * outbuf.c: see outbuf.h.
 *
 * SYNCHRONIZATION: owner only.
 */
#include "outbuf.h"
#include "../global/meta.h"

static_assert(OUT_SLOTS * sizeof(struct out_slot) <= META_MAX, "meta_alloc has them");

#define X_MOST(class, below, size)                                                                 \
    [class] = OUT_SLOT_BYTES / (size) > 1 ? OUT_SLOT_BYTES / (size) : 1,
const uint16_t outbuf_most[SIZE_CLASS_COUNT] = {SIZE_CLASSES(X_MOST)};

static void slot_flush(struct out_slot *slot, struct owned *o)
{
    struct slab *s = slab_of(slot->first);
    uintptr_t unit = (uintptr_t)slot->first & ~(UNIT_SIZE - 1);
    struct block *last = (struct block *)(unit + slot->last * SIZE_GRANULE);
    struct chain chain = {slot->first, last, outbuf_most[slab_class(s)] - slot->room};
    slot->unit = OUT_NO_UNIT; /* closed to outbuf_add, should a fork catch it before the next two */
    atomic_signal_fence(memory_order_seq_cst);
    slot->first = NULL;
    atomic_signal_fence(memory_order_seq_cst);
    slot->room = 0; /* not before: it says how many the chain has */
    owned_push_remote(o, s, chain);
}

/* The child of a fork may find it at any of these steps: without a first block it holds nothing, and with
 * one the rest is there. */
static void slot_open(struct outbuf *out, unsigned index, unsigned class_no, struct block *b)
{
    struct out_slot *slot = &out->slot[index];
    b->next = NULL;
    slot->unit = OUT_NO_UNIT; /* closed to outbuf_add */
    atomic_signal_fence(memory_order_seq_cst);
    slot->last = (uint16_t)(((uintptr_t)b & (UNIT_SIZE - 1)) / SIZE_GRANULE);
    slot->room = (uint16_t)(outbuf_most[class_no] - 1);
    out->open[index / 64] |= (uint64_t)1 << index % 64;
    atomic_signal_fence(memory_order_seq_cst);
    slot->first = b;
    atomic_signal_fence(memory_order_seq_cst);
    slot->unit = (uint32_t)((uintptr_t)b >> UNIT_SHIFT);
}

bool outbuf_start(struct outbuf *out, unsigned class_no, void *p)
{
    unsigned index = outbuf_index((uintptr_t)p >> UNIT_SHIFT);
    if (out->slot == NULL || out->slot[index].first != NULL || outbuf_most[class_no] == 1 ||
        ++out->ticks >= OUT_TICKS)
        return false;
    slot_open(out, index, class_no, p);
    return true;
}

static bool has_slots(struct outbuf *out)
{
    if (HAK_UNLIKELY(out->slot == NULL))
        out->slot = meta_alloc(OUT_SLOTS * sizeof(struct out_slot));
    return out->slot != NULL;
}

void outbuf_open(struct outbuf *out, struct owned *o, struct slab *s, void *p)
{
    if (!has_slots(out)) {
        owned_push_remote(o, s, (struct chain){p, p, 1});
        return;
    }
    unsigned index = outbuf_index((uintptr_t)p >> UNIT_SHIFT);
    struct out_slot *slot = &out->slot[index];
    if (slot->first != NULL)
        slot_flush(slot, o);
    slot_open(out, index, slab_class(s), p);
    if (slot->room == 0)
        slot_flush(slot, o);
}

static void flush_word(struct outbuf *out, struct owned *o, unsigned word)
{
    uint64_t open = out->open[word];
    for (out->open[word] = 0; open != 0; open &= open - 1) {
        struct out_slot *slot = &out->slot[word * 64 + (unsigned)__builtin_ctzll(open)];
        if (slot->first != NULL)
            slot_flush(slot, o);
    }
}

void outbuf_tick(struct outbuf *out, struct owned *o)
{
    if (++out->ticks >= OUT_TICKS)
        outbuf_flush(out, o);
}

void outbuf_flush(struct outbuf *out, struct owned *o)
{
    out->ticks = 0;
    for (unsigned word = 0; word < OUT_SLOTS / 64; word++)
        flush_word(out, o, word);
}
