/*
 * outbuf.c: see outbuf.h.
 *
 * SYNCHRONIZATION: owner only.
 */
#include "outbuf.h"

static uint32_t slot_most(struct slab *s)
{
    return (uint32_t)max_size(OUT_SLOT_BYTES / slab_block_bytes(s), 1);
}

static void slot_flush(struct out_slot *slot, struct owned *o)
{
    struct slab *s = slab_of(slot->first);
    char *unit = (char *)((uintptr_t)slot->unit << UNIT_SHIFT);
    struct block *last = (struct block *)(unit + slot->last * SIZE_GRANULE);
    struct chain chain = {slot->first, last, slot_most(s) - slot->room};
    slot->first = NULL;
    slot->room = 0; /* closed: the next block opens it again */
    owned_push_remote(o, s, chain);
}

void outbuf_open(struct outbuf *out, struct owned *o, struct slab *s, void *p)
{
    uintptr_t unit = (uintptr_t)p >> UNIT_SHIFT;
    unsigned index = outbuf_index(unit);
    struct out_slot *slot = &out->slot[index];
    if (slot->first != NULL)
        slot_flush(slot, o);
    struct block *b = p;
    b->next = NULL;
    *slot = (struct out_slot){
        .first = b,
        .unit = (uint32_t)unit,
        .last = (uint16_t)(((uintptr_t)p & (UNIT_SIZE - 1)) / SIZE_GRANULE),
        .room = (uint16_t)(slot_most(s) - 1),
    };
    out->open[index / 64] |= (uint64_t)1 << index % 64;
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
