/*
 * outbuf.c: see outbuf.h.
 *
 * SYNCHRONIZATION: owner only, but for the count of buffers in use: a hint for how much each may hold.
 */
#include "outbuf.h"
#include "../global/meta.h"

#define SWEPT_FEW    16u /* slots a sweep, while they are the least number */
#define TICKS_FEW    8u  /* between sweeps: a slow path, or a slot opened, is one */
#define SWEPT_MANY   64u /* the same, where there are more slots */
#define TICKS_MANY   128u
#define CHAIN_SHORT  8u /* blocks: fewer, if a slot holds more than twice as many */
#define CHAIN_SMALL  4u /* of what a slot may hold, a part as large at most */
#define CHAINS_LEAST (OUT_SLOTS_LEAST / 4) /* fewer in a round say nothing */
#define OUT_PART     4u /* of the blocks out of a slab: no larger part waits in one of many slots */

static_assert(sizeof(struct out_slots) <= META_MAX, "meta_alloc has them");
static_assert(64 % SWEPT_FEW == 0 && 64 % SWEPT_MANY == 0, "a sweep is in one word");

static _Atomic(long) in_use; /* atomic, relaxed: buffers */

#define X_MOST(class, below, size)                                                                 \
    [class] = OUT_SLOT_BYTES / (size) > 1 ? OUT_SLOT_BYTES / (size) : 1,
const uint16_t outbuf_most[SIZE_CLASS_COUNT] = {SIZE_CLASSES(X_MOST)};

/* One block alone is of so many slabs that a few slots more bring it no company. */
static bool is_short(uint32_t count, uint32_t most)
{
    return count > 1 && count < CHAIN_SHORT && count < most / 2;
}

static bool has_many(const struct outbuf *out)
{
    return out->last_slot >= OUT_SLOTS_FEW;
}

static unsigned shift_of(const struct out_slot *slot)
{
    return slot->last >> OUT_SHIFT;
}

static struct block *last_of(const struct out_slot *slot)
{
    uintptr_t unit = (uintptr_t)slot->first & ~(UNIT_SIZE - 1);
    return (struct block *)(unit + (slot->last & ((1u << OUT_SHIFT) - 1)) * SIZE_GRANULE);
}

static void slot_flush(struct outbuf *out, struct out_slot *slot, struct owned *o)
{
    struct slab *s = slab_of(slot->first);
    uint32_t most = outbuf_most[slab_class(s)];
    struct chain chain = {slot->first, last_of(slot), (most >> shift_of(slot)) - slot->room};
    slot->unit = OUT_NO_UNIT; /* closed to outbuf_add, should a fork catch it before the next two */
    atomic_signal_fence(memory_order_seq_cst);
    slot->first = NULL;
    atomic_signal_fence(memory_order_seq_cst);
    slot->room = 0; /* not before: it says how many the chain has */
    out->chains++;
    out->short_chains += is_short(chain.count, most);
    out->small_chains += CHAIN_SMALL * chain.count <= most;
    owned_push_remote(o, s, chain);
}

/* How often the room of a slot for this slab is halved. The count of what is out may change meanwhile, or be another
 * slab's by now: it is a hint. */
static unsigned shift_for(const struct outbuf *out, struct slab *s, uint32_t most)
{
    unsigned shift = 0;
    if (has_many(out))
        for (uint32_t part = slab_used(s) / OUT_PART; most >> shift > part; shift++)
            continue;
    return shift;
}

/* The child of a fork may find it at any of these steps: without a first block it holds nothing, and with
 * one the rest is there. */
static void slot_open(struct outbuf *out, unsigned index, struct block *b, uint32_t most,
                      unsigned shift)
{
    struct out_slot *slot = &out->slots->slot[index];
    b->next = NULL;
    slot->unit = OUT_NO_UNIT; /* closed to outbuf_add */
    atomic_signal_fence(memory_order_seq_cst);
    slot->last =
        (uint16_t)(((uintptr_t)b & (UNIT_SIZE - 1)) / SIZE_GRANULE | (size_t)shift << OUT_SHIFT);
    slot->room = (uint16_t)((most >> shift) - 1);
    out->slots->open[index / 64] |= (uint64_t)1 << index % 64;
    atomic_signal_fence(memory_order_seq_cst);
    slot->first = b;
    atomic_signal_fence(memory_order_seq_cst);
    slot->unit = (uint32_t)((uintptr_t)b >> UNIT_SHIFT);
}

static bool is_time_to_sweep(struct outbuf *out)
{
    return ++out->ticks >= (has_many(out) ? TICKS_MANY : TICKS_FEW);
}

/* Into an empty slot, if more than this block will fit. */
static bool start(struct outbuf *out, unsigned index, struct slab *s, uint32_t most, void *p)
{
    unsigned shift = shift_for(out, s, most);
    if (most >> shift < 2)
        return false;
    slot_open(out, index, p, most, shift);
    return true;
}

/* Only where there are many slots is the descriptor looked at: it may be in another thread's cache. */
bool outbuf_start(struct outbuf *out, unsigned class_no, void *p)
{
    unsigned index = outbuf_index(out, (uintptr_t)p >> UNIT_SHIFT);
    if (out->last_slot == 0 || out->slots->slot[index].first != NULL || is_time_to_sweep(out))
        return false;
    return start(out, index, has_many(out) ? slab_of(p) : NULL, outbuf_most[class_no], p);
}

static bool has_slots(struct outbuf *out)
{
    if (HAK_UNLIKELY(out->slots == NULL))
        out->slots = meta_alloc(sizeof *out->slots);
    return out->slots != NULL;
}

/* A power of two, if all buffers may have so many together. */
static uint32_t slots_of_each(uint32_t all)
{
    long buffers = max_long(atomic_load_explicit(&in_use, memory_order_relaxed), 1);
    uint32_t slots = OUT_SLOTS_LEAST;
    while (slots < OUT_SLOTS_MOST && slots * 2 * (unsigned long)buffers <= all)
        slots *= 2;
    return slots;
}

static unsigned count_open(const struct outbuf *out)
{
    unsigned open = 0;
    for (unsigned word = 0; word < OUT_SLOTS_MOST / 64; word++)
        open += (unsigned)__builtin_popcountll(out->slots->open[word]);
    return open;
}

/* So many that nearly each slab has its own, where few chains are of any length; 0: it is not so, or there can't be
 * many. */
static uint32_t many_wanted(const struct outbuf *out)
{
    uint32_t most = slots_of_each(OUT_SLOTS_ALL), slots = out->last_slot + 1;
    if (!has_many(out))
        slots = out->chains >= CHAINS_LEAST && 8 * out->small_chains > 7 * out->chains
                    ? 2 * OUT_SLOTS_FEW
                    : 0;
    else if (8 * out->conflicts > out->chains)
        slots *= 2;
    else if (count_open(out) < 2 * OUT_SLOTS_LEAST && 32 * out->alone < out->chains)
        slots = 0;
    return most <= OUT_SLOTS_FEW ? 0 : slots < most ? slots : most;
}

/* More slots make short chains longer. */
static uint32_t few_wanted(const struct outbuf *out)
{
    uint32_t most = slots_of_each(OUT_SLOTS_FEW), slots = out->last_slot + 1;
    if (2 * out->short_chains > out->chains)
        slots *= 2;
    else if (has_many(out) || 4 * out->short_chains < out->chains)
        slots = OUT_SLOTS_LEAST;
    return slots < most ? slots : most;
}

static void set_slots(struct outbuf *out, uint32_t slots)
{
    out->last_slot = slots - 1;
    out->chains = out->short_chains = out->small_chains = out->conflicts = out->alone = 0;
}

static void use(struct outbuf *out)
{
    if (out->last_slot != 0)
        return;
    atomic_fetch_add_explicit(&in_use, 1, memory_order_relaxed);
    set_slots(out, OUT_SLOTS_LEAST);
}

/* One of the last of its slab, which fewer slots would hold. */
static void push_alone(struct outbuf *out, struct owned *o, struct slab *s, void *p)
{
    out->alone++;
    owned_push_remote(o, s, (struct chain){p, p, 1});
}

void outbuf_open(struct outbuf *out, struct owned *o, struct slab *s, void *p)
{
    if (outbuf_most[slab_class(s)] == 1 || !has_slots(out)) {
        owned_push_remote(o, s, (struct chain){p, p, 1});
        return;
    }
    use(out);
    unsigned index = outbuf_index(out, (uintptr_t)p >> UNIT_SHIFT);
    struct out_slot *slot = &out->slots->slot[index];
    if (slot->first != NULL) {
        out->conflicts += slot->unit != (uintptr_t)p >> UNIT_SHIFT;
        slot_flush(out, slot, o);
    }
    if (!start(out, index, s, outbuf_most[slab_class(s)], p))
        push_alone(out, o, s, p);
}

/* Those of 64 slots that are in the mask. */
static void flush_some(struct outbuf *out, struct owned *o, unsigned word, uint64_t mask)
{
    struct out_slots *slots = out->slots;
    uint64_t open = slots->open[word] & mask;
    slots->open[word] &= ~mask;
    for (; open != 0; open &= open - 1) {
        struct out_slot *slot = &slots->slot[word * 64 + (unsigned)__builtin_ctzll(open)];
        if (slot->first != NULL)
            slot_flush(out, slot, o);
    }
}

static void flush_all(struct outbuf *out, struct owned *o)
{
    for (unsigned word = 0; word < OUT_SLOTS_MOST / 64; word++)
        flush_some(out, o, word, UINT64_MAX);
}

/* All slots were flushed in turn. Where that was nothing, what was opened behind the sweeps goes too, and what lies
 * where there were more slots once; and a buffer that had nothing at all is not in use any more. */
static void end_round(struct outbuf *out, struct owned *o)
{
    out->swept = 0;
    if (out->chains + out->alone == 0)
        flush_all(out, o);
    if (out->chains + out->alone == 0) {
        outbuf_leave(out);
        return;
    }
    uint32_t before = out->last_slot;
    uint32_t many = many_wanted(out);
    set_slots(out, many != 0 ? many : few_wanted(out));
    if (out->last_slot != before)
        flush_all(out, o); /* what lies where it is not looked for any more */
}

void outbuf_flush(struct outbuf *out, struct owned *o)
{
    if (out->last_slot == 0)
        return;
    flush_all(out, o);
    out->ticks = 0;
    end_round(out, o);
}

/* A part of the slots: to flush all at once, as where their number changes, makes one malloc or free wait for a hundred
 * chains. */
static void sweep(struct outbuf *out, struct owned *o)
{
    unsigned part = has_many(out) ? SWEPT_MANY : SWEPT_FEW, first = out->swept % 64;
    if (out->last_slot == 0)
        return;
    out->ticks = 0;
    flush_some(out, o, out->swept / 64,
               (part == 64 ? UINT64_MAX : ((uint64_t)1 << part) - 1) << first);
    out->swept += part;
    if (out->swept > out->last_slot)
        end_round(out, o);
}

void outbuf_tick(struct outbuf *out, struct owned *o)
{
    if (is_time_to_sweep(out))
        sweep(out, o);
}

void outbuf_leave(struct outbuf *out)
{
    bool was_in_use = out->last_slot != 0;
    out->last_slot = 0;
    if (was_in_use)
        atomic_fetch_sub_explicit(&in_use, 1, memory_order_relaxed);
}

void outbuf_mend(struct outbuf *out)
{
    for (unsigned i = 0; out->slots != NULL && i < OUT_SLOTS_MOST; i++)
        if (out->slots->slot[i].first != NULL)
            out->slots->open[i / 64] |= (uint64_t)1 << i % 64;
}

void outbuf_only_user(const struct outbuf *out)
{
    bool used = out != NULL && out->last_slot != 0;
    atomic_store_explicit(&in_use, used, memory_order_relaxed);
}

void outbuf_adopt(const struct outbuf *out)
{
    if (out->last_slot != 0)
        atomic_fetch_add_explicit(&in_use, 1, memory_order_relaxed);
}
