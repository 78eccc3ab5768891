/*
 * outbuf.c: see outbuf.h.
 *
 * SYNCHRONIZATION: owner only, but for the count of buffers in use: a hint for how much each may
 * hold.
 */
#include "outbuf.h"
#include "../global/meta.h"

#define SWEEPS 16u /* until all slots are flushed */

static_assert(sizeof(struct out_slots) <= META_MAX, "meta_alloc has them");
static_assert(OUT_SLOTS_MOST <= SWEEPS * 64 && OUT_SLOTS_LEAST / SWEEPS <= 64,
              "a sweep is in one word");

#define CHAIN_SMALL  4u  /* blocks at most, and such a part of what a slot holds */
#define CHAINS_LEAST 64u /* in a round: fewer say nothing */
#define CHAIN_SHORT  8u  /* blocks: fewer, if a slot holds more than twice as many */

static _Atomic(long) in_use; /* atomic, relaxed: buffers */

#define X_MOST(class, below, size)                                                                 \
    [class] = OUT_SLOT_BYTES / (size) > 1 ? OUT_SLOT_BYTES / (size) : 1,
const uint16_t outbuf_most[SIZE_CLASS_COUNT] = {SIZE_CLASSES(X_MOST)};

/* One block alone is of so many slabs that a few slots more bring it no company. */
static bool is_short(uint32_t count, uint32_t most)
{
    return count > 1 && count < CHAIN_SHORT && count < most / 2;
}

static bool is_small(uint32_t count, uint32_t most)
{
    return count <= CHAIN_SMALL && CHAIN_SMALL * count <= most;
}

static void slot_flush(struct outbuf *out, struct out_slot *slot, struct owned *o)
{
    struct slab *s = slab_of(slot->first);
    char *unit = (char *)slot->first - (uintptr_t)slot->first % UNIT_SIZE;
    struct block *last = (struct block *)(void *)(unit + slot->last * SIZE_GRANULE);
    struct chain chain = chain_make(slot->first, last, outbuf_most[slab_class(s)] - slot->room);
    slot->unit = OUT_NO_UNIT; /* closed to outbuf_add, should a fork catch it before the next two */
    atomic_signal_fence(memory_order_seq_cst);
    slot->first = NULL;
    atomic_signal_fence(memory_order_seq_cst);
    slot->room = 0; /* not before: it says how many the chain has */
    out->chains++;
    out->short_chains += is_short(chain.count, outbuf_most[slab_class(s)]);
    out->small_chains += is_small(chain.count, outbuf_most[slab_class(s)]);
    owned_push_remote(o, s, chain);
}

/* The child of a fork may find it at any of these steps: without a first block it holds nothing,
 * and with one the rest is there. */
static void slot_open(struct outbuf *out, unsigned index, unsigned class_no, struct block *b)
{
    struct out_slot *slot = &out->slots->slot[index];
    b->next = NULL;
    slot->unit = OUT_NO_UNIT; /* closed to outbuf_add */
    atomic_signal_fence(memory_order_seq_cst);
    slot->last = (uint16_t)(((uintptr_t)b & (UNIT_SIZE - 1)) / SIZE_GRANULE);
    slot->room = (uint16_t)(outbuf_most[class_no] - 1);
    out->slots->open[index / 64] |= (uint64_t)1 << index % 64;
    atomic_signal_fence(memory_order_seq_cst);
    slot->first = b;
    atomic_signal_fence(memory_order_seq_cst);
    slot->unit = (uint32_t)((uintptr_t)b >> UNIT_SHIFT);
}

/* Their slabs are fetched together: each claim would else wait for its own. */
static void flush_waiting(struct outbuf *out, struct owned *o)
{
    struct slab *slabs[OUT_WAITING];
    for (unsigned i = 0; i < out->waiting; i++) {
        slabs[i] = slab_of(out->slots->waiting[i]);
        __builtin_prefetch(&slabs[i]->owner, 1);
        __builtin_prefetch(&slabs[i]->free, 1);
    }
    while (out->waiting > 0) {
        unsigned i = --out->waiting;
        struct block *b = out->slots->waiting[i];
        atomic_signal_fence(memory_order_seq_cst); /* in one list at most */
        owned_push_remote(o, slabs[i], chain_of_one(b));
    }
}

/* False: as many wait as may. */
static bool wait_alone(struct outbuf *out, struct block *b)
{
    if (out->waiting == OUT_WAITING)
        return false;
    out->slots->waiting[out->waiting] = b;
    atomic_signal_fence(memory_order_seq_cst); /* it is there before it is counted */
    out->waiting++;
    return true;
}

bool outbuf_start(struct outbuf *out, unsigned class_no, void *p)
{
    if (out->scatters)
        return outbuf_most[class_no] > 1 && wait_alone(out, p);
    unsigned index = outbuf_index(out, (uintptr_t)p >> UNIT_SHIFT);
    if (out->slots == NULL || out->slots->slot[index].first != NULL || outbuf_most[class_no] == 1 ||
        outbuf_is_time_to_sweep(out))
        return false;
    slot_open(out, index, class_no, p);
    return true;
}

static long buffers_in_use(void)
{
    return max_long(atomic_load_explicit(&in_use, memory_order_relaxed), 1);
}

static bool has_slots(struct outbuf *out)
{
    if (HAK_UNLIKELY(out->slots == NULL))
        out->slots = meta_alloc(sizeof *out->slots);
    return out->slots != NULL;
}

/* A power of two. */
static uint32_t slots_of_each(void)
{
    uint32_t slots = OUT_SLOTS_LEAST;
    while (slots < OUT_SLOTS_MOST && slots * 2 * (unsigned long)buffers_in_use() <= OUT_SLOTS_ALL)
        slots *= 2;
    return slots;
}

static bool is_scattered(const struct outbuf *out)
{
    return out->chains >= CHAINS_LEAST && 8 * out->small_chains > 7 * out->chains;
}

/* More slots make short chains longer. Where nearly all are of a few blocks, who is alone tries
 * that first; many would pin too much. */
static uint32_t slots_wanted(const struct outbuf *out)
{
    uint32_t slots = out->last_slot + 1;
    if (2 * out->short_chains > out->chains || (is_scattered(out) && buffers_in_use() == 1))
        return slots * 2;
    if (out->chains >= CHAINS_LEAST && 2 * out->small_chains > out->chains)
        return slots;
    return 4 * out->short_chains < out->chains ? OUT_SLOTS_LEAST : slots;
}

static void set_slots(struct outbuf *out, uint32_t slots)
{
    uint32_t most = slots_of_each();
    out->last_slot = (slots < most ? slots : most) - 1;
    out->ticks_most = out->last_slot / (buffers_in_use() > 1 ? 2 * SWEEPS : SWEEPS);
}

static void use(struct outbuf *out)
{
    if (out->last_slot != 0)
        return;
    atomic_fetch_add_explicit(&in_use, 1, memory_order_relaxed);
    set_slots(out, OUT_SLOTS_LEAST);
}

void outbuf_open(struct outbuf *out, struct owned *o, struct slab *s, void *p)
{
    if (outbuf_most[slab_class(s)] == 1 || !has_slots(out)) {
        owned_push_remote(o, s, chain_of_one(p));
        return;
    }
    use(out);
    if (out->scatters) {
        if (!wait_alone(out, p)) {
            flush_waiting(out, o);
            wait_alone(out, p);
        }
        return;
    }
    unsigned index = outbuf_index(out, (uintptr_t)p >> UNIT_SHIFT);
    struct out_slot *slot = &out->slots->slot[index];
    if (slot->first != NULL)
        slot_flush(out, slot, o);
    slot_open(out, index, slab_class(s), p);
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

/* All slots were flushed in turn. Where that was nothing, what was opened behind the sweeps goes
 * too, and what lies where there were more slots once; and a buffer that had nothing at all is not
 * in use any more. What is sent off at the end counts for no round. */
static void end_round(struct outbuf *out, struct owned *o)
{
    out->swept = 0;
    flush_waiting(out, o);
    if (out->chains == 0)
        flush_all(out, o);
    if (out->chains == 0 && !out->scatters) {
        outbuf_leave(out);
        return;
    }
    uint32_t before = out->last_slot;
    bool scattered = is_scattered(out);
    set_slots(out, slots_wanted(out));
    out->scatters = scattered && out->last_slot == before; /* there are no more slots to try with */
    if (out->scatters || out->last_slot != before)
        flush_all(out, o);
    out->chains = out->short_chains = out->small_chains = 0;
}

void outbuf_flush(struct outbuf *out, struct owned *o)
{
    if (out->last_slot == 0)
        return;
    flush_all(out, o);
    out->ticks = 0;
    end_round(out, o);
}

/* A part of the slots: to flush all at once, as where their number changes, makes one malloc or
 * free wait for a hundred chains. */
void outbuf_sweep(struct outbuf *out, struct owned *o)
{
    unsigned part = (out->last_slot + 1) / SWEEPS, first = out->swept % 64;
    out->ticks = 0;
    flush_some(out, o, out->swept / 64,
               (part == 64 ? UINT64_MAX : ((uint64_t)1 << part) - 1) << first);
    out->swept += part;
    if (out->swept > out->last_slot)
        end_round(out, o);
}

void outbuf_leave(struct outbuf *out)
{
    bool was_in_use = out->last_slot != 0;
    out->scatters = false;
    out->ticks_most = 0;                       /* no slot is opened */
    atomic_signal_fence(memory_order_seq_cst); /* nothing waits in what is not in use */
    out->last_slot = 0;
    if (was_in_use)
        atomic_fetch_sub_explicit(&in_use, 1, memory_order_relaxed);
}

void outbuf_mend(struct outbuf *out)
{
    out->swept = 0; /* it may have been past the last slot, between two sweeps */
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
