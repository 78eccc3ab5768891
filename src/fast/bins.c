/*
 * bins.c: how many blocks the bins of a heap hold, and how they go back to their slabs.
 *
 * SYNCHRONIZATION: all by who has the heap. A bin is whole at every instruction: a block is unlinked
 * from one list before it is linked to another.
 */
#include "bins.h"
#include "processor.h"
#include "../global/segment.h"

#define BIN_BYTES      KIB(96)
#define BIN_LEAST      4
#define BIN_SMALL      KIB(8) /* of a class that is not in demand */
#define BIN_MOST       4096
#define BIN_GROWN      16 /* times the first bound, where it is not to hold batches */
#define BIN_GROWN_MOST 32768
#define BIN_LEAN       128 /* blocks: a bin of as few, or fewer, shrinks to none, unless in demand */

#define OVERFLOWS_MOST 4          /* without running out, until a bin shrinks */
#define OVERFLOWS_LEAN 16         /* the same, to none: such a bin gives back little each time */
#define FLUSHED_MOST   64         /* blocks at once, of a class in demand */
#define SLOT_WORTH     4          /* blocks in a slot of the out-buffer */
#define PASSED_MOST    (1u << 30) /* blocks that are counted */

#define GROWN_LEAST  MIB(4)  /* beyond the first bounds, of all bins of a heap */
#define GROWN_MOST   MIB(16) /* the same, of one that is awake and has no more in use */
#define GROWN_ALL    MIB(64) /* of all heaps together, as far as they may not have more */
#define GROWN_EACH   MIB(2)  /* of one bin of large blocks, as GROWN_LEAST: few pass one by one */
#define GROWN_LARGE  KIB(2)  /* bytes of a block: above they are large */
#define GROWN_SPARE  16u     /* such a part more than is wanted */
#define GROWN_SMALL  256u    /* bytes of a block: bins of these grow only while little is in use */
#define GROWN_USE    MIB(4)  /* by a heap: that is little */
#define STALE_FRESH  16u /* units that were taken since a bin ran out: what is more in it shrinks */
#define STALE_BLOCKS 512 /* for each unit more */
#define STALE_TURNS  8u  /* in a call */

#define CLOCKS_QUICK 1u    /* of processor_clock: about 0.1 ms */
#define CLOCKS_LONG  4096u /* less than a second */
#define CLOCKS_AWAKE 512u  /* in sum, until it is awake */
#define CLOCKS_STEP  64u   /* for one step at most */
#define SLEEPER_PART 4     /* of the first bounds */

#define X_LIMIT(class, below, size)                                                                \
    [class] = BIN_BYTES / (size) < BIN_LEAST  ? BIN_LEAST                                          \
              : BIN_BYTES / (size) > BIN_MOST ? BIN_MOST                                           \
                                              : BIN_BYTES / (size),
static const int32_t first_limit[SIZE_CLASS_COUNT] = {SIZE_CLASSES(X_LIMIT)};

#define X_SMALL(class, below, size)                                                                \
    [class] = BIN_SMALL / (size) >= 2 ? BIN_SMALL / (size) : (size) <= KIB(16) ? 2 : 1,
static const int32_t small_limit[SIZE_CLASS_COUNT] = {SIZE_CLASSES(X_SMALL)};

/* ---- bounds ---- */

static int32_t held(const struct bin *bin)
{
    return bin->limit - bin->room;
}

static void set_limit(struct bin *bin, int32_t limit)
{
    bin->room += limit - bin->limit;
    bin->limit = limit;
}

static size_t grown_bytes(unsigned class_no, int32_t limit)
{
    int32_t first = first_limit[class_no];
    return limit > first ? (size_t)(limit - first) * size_class_bytes[class_no] : 0;
}

/* A heap owns slabs only of what it allocates, and often. */
static void set_owned(struct heap *h, unsigned class_no)
{
    owned_set_none(&h->owned, class_no, !bins_in_demand(h, class_no));
}

static void resize_bin(struct heap *h, unsigned class_no, int32_t limit)
{
    struct bin *bin = &h->bin[class_no];
    h->grown += grown_bytes(class_no, limit) - grown_bytes(class_no, bin->limit);
    set_limit(bin, limit);
    set_owned(h, class_no);
}

static void close_bin(struct heap *h, unsigned class_no)
{
    struct bin *bin = &h->bin[class_no];
    owned_claim_none(&h->owned, class_no);
    bins_flush(h, bin, class_no, INT32_MAX);
    bin->room = bin->limit; /* it may have counted wrong, since a fork */
    resize_bin(h, class_no, 0);
}

/* Where a slot of the out-buffer holds but a few blocks, a small bin makes the longer chains, for
 * who has use for it. */
static bool is_to_close(const struct heap *h, unsigned class_no)
{
    return outbuf_most[class_no] >= SLOT_WORTH || !owned_comes_again(&h->owned);
}

static int32_t young_limit(unsigned class_no)
{
    return first_limit[class_no];
}

static int32_t sleeper_limit(unsigned class_no)
{
    int32_t limit = first_limit[class_no] / SLEEPER_PART, least = small_limit[class_no];
    return limit > least ? limit : least;
}

/* ---- pace ---- */

static void set_pace(struct heap *h, enum heap_pace pace)
{
    h->pace = pace;
    h->awake = 0;
}

/* What is in a bin then goes back as its thread frees more, some each time. */
static void shrink_limits(struct heap *h, int32_t (*most)(unsigned class_no))
{
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        if (h->bin[i].limit > most(i))
            resize_bin(h, i, most(i));
}

/* Its thread was awake from one slow path to the next, or else slept in between. */
static void note_awake(struct heap *h, unsigned since)
{
    h->awake += since < CLOCKS_STEP ? since : CLOCKS_STEP;
    if (h->awake > CLOCKS_AWAKE)
        set_pace(h, HEAP_AWAKE);
}

static void set_now(struct heap *h)
{
    uint16_t now = processor_clock();
    unsigned since = (uint16_t)(now - heap_now(h));
    if (heap_is_long(since)) {
        set_pace(h, HEAP_SLEEPER);
        shrink_limits(h, sleeper_limit);
    } else if (h->pace != HEAP_AWAKE) {
        note_awake(h, since);
    }
    atomic_store_explicit(&h->now, now, memory_order_relaxed);
}

/* ---- running over, and out ---- */

static unsigned clocks_since_out(const struct heap *h, unsigned class_no)
{
    return (uint16_t)(heap_now(h) - h->ran_out[class_no]);
}

/* It has not run out for long. */
static bool is_only_freed(const struct heap *h, unsigned class_no)
{
    return !bins_in_demand(h, class_no) || clocks_since_out(h, class_no) > CLOCKS_LONG;
}

static void end_demand(struct heap *h, unsigned class_no)
{
    h->demand[class_no] = 0;
    close_bin(h, class_no);
}

void bins_ran_over(struct heap *h, unsigned class_no)
{
    int32_t limit = h->bin[class_no].limit;
    if (h->ran_over[class_no] < (limit > BIN_LEAN ? OVERFLOWS_MOST : OVERFLOWS_LEAN))
        h->ran_over[class_no]++;
    else if (limit > BIN_LEAN)
        resize_bin(h, class_no, limit / 2); /* the next frees flush the rest */
    else if (is_only_freed(h, class_no) && is_to_close(h, class_no))
        end_demand(h, class_no);
}

/* Blocks in a bin pin their slabs, so few are worth it where much is in use. */
static bool holds_batches(const struct heap *h)
{
    return h->pace == HEAP_AWAKE && h->owned.part <= GROWN_MOST;
}

static size_t grown_most(const struct heap *h)
{
    if (!holds_batches(h))
        return GROWN_LEAST;
    size_t most = max_size(GROWN_ALL / (size_t)segment_heaps(), h->owned.part);
    return min_size(max_size(most, GROWN_LEAST), GROWN_MOST);
}

/* Blocks that a bin may hold, whatever the others hold beyond their first bounds. */
static size_t room_to_grow(const struct heap *h, unsigned class_no)
{
    size_t others = h->grown - grown_bytes(class_no, h->bin[class_no].limit), most = grown_most(h);
    size_t bytes = most > others ? most - others : 0, first = (size_t)first_limit[class_no];
    if (size_class_bytes[class_no] > GROWN_LARGE)
        bytes = min_size(bytes, GROWN_EACH);
    size_t blocks = first + bytes / size_class_bytes[class_no];
    return min_size(blocks, holds_batches(h) ? BIN_GROWN_MOST : first * BIN_GROWN);
}

static bool may_grow(const struct heap *h, unsigned class_no)
{
    size_t bytes = size_class_bytes[class_no];
    return bytes > SIZE_TINY_MAX || h->owned.part <= (bytes > GROWN_SMALL ? GROWN_MOST : GROWN_USE);
}

/* If it ran over, to hold what has passed it as well, and some more. */
static int32_t grown_limit(const struct heap *h, unsigned class_no)
{
    size_t first = (size_t)first_limit[class_no], limit = (size_t)h->bin[class_no].limit;
    size_t wanted = max_size(limit, first);
    if (h->ran_over[class_no] > 0)
        wanted += h->passed[class_no] + (wanted + h->passed[class_no]) / GROWN_SPARE;
    return (int32_t)min_size(wanted, max_size(room_to_grow(h, class_no), first));
}

/* Once more if it ran out a moment ago; not at all if that was long ago, or before it was in
 * demand. All that was taken until then fits into a small bin. */
static void note_demand(struct heap *h, unsigned class_no)
{
    unsigned since = clocks_since_out(h, class_no);
    h->ran_out[class_no] = heap_now(h);
    h->fresh_out[class_no] = (uint16_t)h->owned.fresh;
    if (since > (bins_in_demand(h, class_no) ? CLOCKS_LONG : CLOCKS_QUICK))
        h->demand[class_no] = 0;
    else if (!bins_in_demand(h, class_no))
        h->demand[class_no]++;
}

static int32_t limit_wanted(const struct heap *h, unsigned class_no)
{
    if (!bins_in_demand(h, class_no))
        return small_limit[class_no];
    if (h->pace == HEAP_SLEEPER)
        return sleeper_limit(class_no);
    return may_grow(h, class_no) ? grown_limit(h, class_no) : first_limit[class_no];
}

void bins_ran_out(struct heap *h, unsigned class_no)
{
    if (h->bin[class_no].limit == 0)
        outbuf_flush(&h->out, &h->owned); /* it has only freed: this may be what it wants now */
    bool was_in_demand = bins_in_demand(h, class_no);
    note_demand(h, class_no);
    int32_t limit = limit_wanted(h, class_no);
    if (limit != h->bin[class_no].limit || bins_in_demand(h, class_no) != was_in_demand)
        resize_bin(h, class_no, limit);
    if (h->ran_over[class_no] > 0)
        h->passed[class_no] = 0;
    h->ran_over[class_no] = 0;
}

/* ---- what is not used ---- */

/* So that no call takes long: the next round of looks goes on. */
static void cool_some(struct heap *h, unsigned class_no)
{
    int32_t limit = h->bin[class_no].limit - BINS_FLUSH_MOST, small = small_limit[class_no];
    bins_flush(h, &h->bin[class_no], class_no, BINS_FLUSH_MOST);
    resize_bin(h, class_no, limit > small ? limit : small);
}

/* One that has shrunk below that stays so. */
static void cool(struct heap *h, unsigned class_no)
{
    struct bin *bin = &h->bin[class_no];
    int32_t small = small_limit[class_no], beyond = held(bin) - small;
    if (beyond > BINS_FLUSH_MOST) {
        cool_some(h, class_no);
        return;
    }
    h->demand[class_no] = 0;
    owned_claim_none(&h->owned, class_no);
    bins_flush(h, bin, class_no, beyond);
    resize_bin(h, class_no, bin->limit < small ? bin->limit : small);
}

static bool is_stale(const struct heap *h, unsigned class_no)
{
    return held(&h->bin[class_no]) > first_limit[class_no] &&
           (uint16_t)(h->owned.fresh - h->fresh_out[class_no]) >= STALE_FRESH;
}

/* It may hold more than its bound, which has shrunk then. */
static void shrink_some(struct heap *h, unsigned class_no)
{
    struct bin *bin = &h->bin[class_no];
    int32_t first = first_limit[class_no], limit = bin->limit - STALE_BLOCKS;
    bins_flush(h, bin, class_no, STALE_BLOCKS);
    if (bin->limit > first)
        resize_bin(h, class_no, limit > first ? limit : first);
}

void bins_shrink_stale(struct heap *h)
{
    uint32_t turns = h->owned.fresh - h->fresh_seen, looks = SIZE_CLASS_COUNT;
    turns = turns < STALE_TURNS ? turns : STALE_TURNS;
    h->fresh_seen = h->owned.fresh;
    while (turns > 0 && looks > 0) {
        if (is_stale(h, h->stale_class)) {
            shrink_some(h, h->stale_class);
            turns--;
        } else {
            h->stale_class = (h->stale_class + 1) % SIZE_CLASS_COUNT;
            looks--;
        }
    }
}

void bins_begin_refill(struct heap *h)
{
    unsigned class_no = h->refills++ % SIZE_CLASS_COUNT;
    set_now(h);
    if (bins_in_demand(h, class_no) && clocks_since_out(h, class_no) > CLOCKS_LONG)
        cool(h, class_no);
    if (class_no == 0) {
        owned_look_around(&h->owned);
        runs_age(&h->runs);
    }
    owned_look_at_oldest(&h->owned, class_no);
    owned_keep_bounds(&h->owned, class_no);
}

/* ---- all bins of a heap ---- */

void bins_begin(struct heap *h)
{
    set_pace(h, HEAP_YOUNG);
    if (h->grown > GROWN_LEAST)
        shrink_limits(h, young_limit);
}

void bins_recount(struct heap *h)
{
    h->grown = 0;
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++) {
        h->grown += grown_bytes(i, h->bin[i].limit);
        h->bin[i].room = h->bin[i].limit;
        for (struct block *b = h->bin[i].head; b != NULL; b = b->next)
            h->bin[i].room--;
        set_owned(h, i);
    }
}

size_t bins_bytes(const struct heap *h)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        bytes += (size_t)held(&h->bin[i]) * size_class_bytes[i];
    return bytes;
}

void bins_empty(struct heap *h)
{
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        end_demand(h, i);
}

/* ---- flushing ---- */

static bool is_same_unit(const struct block *a, const struct block *b)
{
    return ((uintptr_t)a ^ (uintptr_t)b) >> UNIT_SHIFT == 0;
}

/* The blocks at the start of the list that are of one unit, and so of one slab. */
static struct chain same_slab(struct block *first, int32_t most)
{
    struct block *last = first;
    int32_t count = 1;
    for (; count < most && last->next != NULL && is_same_unit(last->next, first); count++)
        last = last->next;
    return chain_make(first, last, (uint32_t)count);
}

/* One's own, and of slabs that may be claimed, go back at once. Others wait in the out-buffer for
 * more of their slab: to take over a slab, or to push on it, costs the same for one block as for
 * many. But for the last chain alone, no slots are allocated. */
static void flush_chain(struct heap *h, struct slab *s, struct chain chain, bool is_last)
{
    if (owned_put_or_claim(&h->owned, s, chain))
        return;
    if (chain.count >= outbuf_most[slab_class(s)] || (h->out.scatters && chain.count > 1) ||
        (is_last && h->out.slots == NULL)) {
        owned_push_remote(&h->owned, s, chain);
        return;
    }
    struct block *next = chain.first;
    while (chain.count-- > 0) {
        struct block *b = next;
        next = b->next;
        if (!outbuf_add(&h->out, b))
            outbuf_open(&h->out, &h->owned, s, b);
    }
}

/* How many there were. */
static int32_t flush_some(struct heap *h, struct bin *bin, int32_t most)
{
    struct chain chain = same_slab(bin->head, most);
    bin->head = chain_last(chain)->next;
    atomic_signal_fence(memory_order_seq_cst); /* in one list at most */
    bin->room += (int32_t)chain.count;
    flush_chain(h, slab_of(chain.first), chain, (int32_t)chain.count == most || bin->head == NULL);
    return (int32_t)chain.count;
}

/* False: the block at the head is not alone of its unit there, or does not go back just so. Most do
 * where a large structure is dropped in an order of its own: the shorter the way of each, the more
 * of their misses overlap. */
HAK_INLINE bool flush_one(struct heap *h, struct bin *bin, size_t bytes)
{
    struct block *b = bin->head, *next = b->next;
    struct slab *s = is_same_unit(b, next) ? NULL : slab_near(&h->near, b);
    if (s == NULL || !owned_is_for_one(&h->owned, s))
        return false;
    bin->head = next;
    atomic_signal_fence(memory_order_seq_cst); /* in one list at most */
    bin->room++;
    owned_put_one(&h->owned, s, b, bytes);
    return true;
}

void bins_flush(struct heap *h, struct bin *bin, unsigned class_no, int32_t count)
{
    size_t bytes = size_class_bytes[class_no];
    while (count > 0 && bin->head != NULL)
        count -= flush_one(h, bin, bytes) ? 1 : flush_some(h, bin, count);
}

/* To half of its bound, at most; it may have shrunk. */
static int32_t flush_count(const struct bin *bin)
{
    int32_t count = bin->limit / 2 - bin->room;
    return count < FLUSHED_MOST ? count : FLUSHED_MOST;
}

/* For each time that as many as it holds have gone back, however often it ran out meanwhile, it ran
 * over once. */
static void note_passed(struct heap *h, unsigned class_no, int32_t count)
{
    uint32_t limit = (uint32_t)h->bin[class_no].limit, before = h->passed[class_no];
    if (before < PASSED_MOST)
        h->passed[class_no] += (uint32_t)count;
    if (h->passed[class_no] / limit != before / limit)
        bins_ran_over(h, class_no);
}

void bins_flush_full(struct heap *h, unsigned class_no)
{
    struct bin *bin = &h->bin[class_no];
    int32_t count = flush_count(bin);
    unsigned by_turns = h->flushes++ % SIZE_CLASS_COUNT;
    set_now(h);
    owned_look_around(&h->owned);
    owned_look_at_oldest(&h->owned, by_turns);
    owned_keep_bounds(&h->owned, by_turns);
    bins_flush(h, bin, class_no, count);
    note_passed(h, class_no, count);
}
