/*
 * outbuf.c: see outbuf.h.
 *
 * SYNCHRONIZATION: owner only.
 */
#include "outbuf.h"

static void slot_flush(struct out_slot *slot, struct owned *o)
{
    struct chain chain = {slot->first, slot->last, slot->count};
    slot->first = NULL;
    slot->count = 0;
    slot->most = 0;
    owned_push_remote(o, slab_of(chain.first), chain);
}

void outbuf_open(struct outbuf *out, struct owned *o, struct slab *s, void *p)
{
    uintptr_t unit = (uintptr_t)p >> UNIT_SHIFT;
    struct out_slot *slot = outbuf_slot(out, unit);
    if (slot->count != 0)
        slot_flush(slot, o);
    struct block *b = p;
    b->next = NULL;
    *slot = (struct out_slot){unit, b, b, 1, (uint32_t)(OUT_SLOT_BYTES / slab_block_bytes(s))};
    out->open |= 1u << (unit % OUT_SLOTS);
    if (slot->most <= 1)
        slot_flush(slot, o);
}

void outbuf_flush(struct outbuf *out, struct owned *o)
{
    uint32_t open = out->open;
    for (out->open = 0; open != 0; open &= open - 1) {
        struct out_slot *slot = &out->slot[__builtin_ctz(open)];
        if (slot->count != 0)
            slot_flush(slot, o);
    }
}
