/*
 * heap.c: heaps come, go, and change hands.
 *
 * SYNCHRONIZATION
 * - `parked` and `spare` are pushed and popped singly (pop_mpmc); heaps are type-stable.
 * - `all` is push-only: the CAS that publishes a heap (release) pairs with the acquiring load of the
 *   search in adopt_vanished.
 * - `holder`: 0 while in a stack. In the child of a fork, a heap whose holder is of an older generation
 *   belongs to a thread that vanished. If that thread was not in a slow path, the heap is whole (the fast
 *   paths leave it so at every instruction) and is adopted by CAS, straight into a slow path; else it has to
 *   be mended first, by the only thread there is, in the child's handler. So a heap is busy from before it is
 *   held until after it is given back.
 * - A heap becomes busy by a store, with a look at who has seized it, and idle again by a store (release), since
 *   others seize idle ones (heap.h). Whoever ends a seizure decides by the value that it finds.
 * - Mending: bins, slots of the out-buffer and free lists of slabs are whole at every instruction of the slow
 *   paths as well, since blocks are unlinked from one before they are linked to another, and linked before
 *   they become a head; marked after they are unlinked, and linked after they are not marked any more. Counts and
 *   lists of slabs may be torn, and are made anew.
 */
#include "heap.h"
#include "counters.h"
#include "processor.h"
#include "thread.h"
#include "../global/meta.h"
#include "../global/os.h"
#include "../global/segment.h"
#include "../global/shared.h"
#include "../global/whale.h"

#define BIN_BYTES      KIB(96)
#define BIN_LEAST      4
#define BIN_SMALL      KIB(8) /* of a class that is not in demand */
#define BIN_MOST       4096
#define BIN_GROWN      16 /* times the first bound, where it is not to hold batches */
#define BIN_GROWN_MOST 32768
#define BIN_LEAN       128 /* blocks: a bin of as few, or fewer, shrinks to none, unless in demand */
#define OVERFLOWS_MOST 4   /* without running out, until a bin shrinks */
#define OVERFLOWS_LEAN 16  /* the same, to none: such a bin gives back little each time */
#define FLUSHED_MOST   64  /* blocks at once, of a class in demand */
#define SLOT_WORTH     4   /* blocks in a slot of the out-buffer */
#define GROWN_LEAST    MIB(4)  /* beyond the first bounds, of all bins of a heap */
#define GROWN_MOST     MIB(16) /* the same, of one that is awake and has no more in use */
#define GROWN_ALL      MIB(64) /* of all heaps together, as far as they may not have more */
#define GROWN_SPARE    16u     /* such a part more than is wanted */
#define GROWN_SMALL    256u   /* bytes of a block: bins of these grow only while little is in use */
#define GROWN_USE      MIB(4) /* by a heap: that is little */
#define STALE_FRESH    16u /* units that were taken since a bin ran out: what is more in it shrinks */
#define STALE_BLOCKS   512        /* for each unit more */
#define STALE_TURNS    8u         /* in a call */
#define PASSED_MOST    (1u << 30) /* blocks that are counted */
#define PARKED_BYTES   MIB(16)    /* free blocks in all parked heaps together */
#define HEAPS_NUMBERED 4096u      /* that are found by their owners */
#define CLOCKS_QUICK   1u         /* of processor_clock: about 0.1 ms */
#define CLOCKS_LONG    4096u      /* less than a second */
#define CLOCKS_IDLE    1024u      /* about a tenth of a second */
#define CLOCKS_AWAKE   512u       /* in sum, until it is awake */
#define CLOCKS_STEP    64u        /* for one step at most */
#define SLEEPER_PART   4          /* of the first bounds */

VARIANT_HEAP_STORAGE struct heap *heap_current =
    (struct heap *)(uintptr_t)front.nothing[HEAP_START];
static VARIANT_HEAP_STORAGE struct heap *heap_held VARIANT_HEAP_MODEL;

static lf_stack parked;
static lf_stack spare;
static _Atomic(size_t) parked_bytes;  /* atomic, relaxed: what the parked heaps hold */
static _Atomic(int32_t) parked_count; /* atomic, relaxed */
static _Atomic(struct heap *) all;    /* atomic, push only */
static _Atomic(uint32_t) heaps_made;  /* atomic, relaxed: numbers given out */
static _Atomic(struct heap *)
    numbered[HEAPS_NUMBERED];        /* constant once set (release): by their numbers */
static _Atomic(uint32_t) generation; /* atomic, relaxed: forks since the first process */

/* ---- making and finding ---- */

#define X_LIMIT(class, below, size)                                                                \
    [class] = BIN_BYTES / (size) < BIN_LEAST  ? BIN_LEAST                                          \
              : BIN_BYTES / (size) > BIN_MOST ? BIN_MOST                                           \
                                              : BIN_BYTES / (size),
static const int32_t first_limit[SIZE_CLASS_COUNT] = {SIZE_CLASSES(X_LIMIT)};

#define X_SMALL(class, below, size)                                                                \
    [class] = BIN_SMALL / (size) >= 2 ? BIN_SMALL / (size) : (size) <= KIB(16) ? 2 : 1,
static const int32_t small_limit[SIZE_CLASS_COUNT] = {SIZE_CLASSES(X_SMALL)};

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
    owned_set_none(&h->owned, class_no, !heap_in_demand(h, class_no));
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
    heap_flush_bin(h, bin, class_no, INT32_MAX);
    bin->room = bin->limit; /* it may have counted wrong, since a fork */
    resize_bin(h, class_no, 0);
}

/* Where a slot of the out-buffer holds but a few blocks, a small bin makes the longer chains, for
 * who has use for it. */
static bool is_to_close(const struct heap *h, unsigned class_no)
{
    return outbuf_most[class_no] >= SLOT_WORTH || !owned_comes_again(&h->owned);
}

static uint16_t now_of(const struct heap *h)
{
    return atomic_load_explicit(&h->now, memory_order_relaxed);
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

/* A clock that steps back, as a thread's may when it changes processors, is no sleep. */
static bool is_long(unsigned since)
{
    return since > CLOCKS_IDLE && since < UINT16_MAX - CLOCKS_IDLE;
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
    unsigned since = (uint16_t)(now - now_of(h));
    if (is_long(since)) {
        set_pace(h, HEAP_SLEEPER);
        shrink_limits(h, sleeper_limit);
    } else if (h->pace != HEAP_AWAKE) {
        note_awake(h, since);
    }
    atomic_store_explicit(&h->now, now, memory_order_relaxed);
}

static unsigned clocks_since_out(const struct heap *h, unsigned class_no)
{
    return (uint16_t)(now_of(h) - h->ran_out[class_no]);
}

/* It has not run out for long. */
static bool is_only_freed(const struct heap *h, unsigned class_no)
{
    return !heap_in_demand(h, class_no) || clocks_since_out(h, class_no) > CLOCKS_LONG;
}

static void end_demand(struct heap *h, unsigned class_no)
{
    h->demand[class_no] = 0;
    close_bin(h, class_no);
}

void heap_bin_ran_over(struct heap *h, unsigned class_no)
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
    h->ran_out[class_no] = now_of(h);
    h->fresh_out[class_no] = (uint16_t)h->owned.fresh;
    if (since > (heap_in_demand(h, class_no) ? CLOCKS_LONG : CLOCKS_QUICK))
        h->demand[class_no] = 0;
    else if (!heap_in_demand(h, class_no))
        h->demand[class_no]++;
}

static int32_t limit_wanted(const struct heap *h, unsigned class_no)
{
    if (!heap_in_demand(h, class_no))
        return small_limit[class_no];
    if (h->pace == HEAP_SLEEPER)
        return sleeper_limit(class_no);
    return may_grow(h, class_no) ? grown_limit(h, class_no) : first_limit[class_no];
}

void heap_bin_ran_out(struct heap *h, unsigned class_no)
{
    if (h->bin[class_no].limit == 0)
        outbuf_flush(&h->out, &h->owned); /* it has only freed: this may be what it wants now */
    bool was_in_demand = heap_in_demand(h, class_no);
    note_demand(h, class_no);
    int32_t limit = limit_wanted(h, class_no);
    if (limit != h->bin[class_no].limit || heap_in_demand(h, class_no) != was_in_demand)
        resize_bin(h, class_no, limit);
    if (h->ran_over[class_no] > 0)
        h->passed[class_no] = 0;
    h->ran_over[class_no] = 0;
}

/* So that no call takes long: the next round of looks goes on. */
static void cool_some(struct heap *h, unsigned class_no)
{
    int32_t limit = h->bin[class_no].limit - HEAP_FLUSH_MOST, small = small_limit[class_no];
    heap_flush_bin(h, &h->bin[class_no], class_no, HEAP_FLUSH_MOST);
    resize_bin(h, class_no, limit > small ? limit : small);
}

/* One that has shrunk below that stays so. */
static void cool(struct heap *h, unsigned class_no)
{
    struct bin *bin = &h->bin[class_no];
    int32_t small = small_limit[class_no], beyond = held(bin) - small;
    if (beyond > HEAP_FLUSH_MOST) {
        cool_some(h, class_no);
        return;
    }
    h->demand[class_no] = 0;
    owned_claim_none(&h->owned, class_no);
    heap_flush_bin(h, bin, class_no, beyond);
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
    heap_flush_bin(h, bin, class_no, STALE_BLOCKS);
    if (bin->limit > first)
        resize_bin(h, class_no, limit > first ? limit : first);
}

void heap_shrink_stale(struct heap *h)
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

void heap_begin_refill(struct heap *h)
{
    unsigned class_no = h->refills++ % SIZE_CLASS_COUNT;
    set_now(h);
    if (heap_in_demand(h, class_no) && clocks_since_out(h, class_no) > CLOCKS_LONG)
        cool(h, class_no);
    if (class_no == 0) {
        owned_look_around(&h->owned);
        runs_age(&h->runs);
    }
    owned_look_at_oldest(&h->owned, class_no);
    owned_keep_bounds(&h->owned, class_no);
}

static uint32_t held_now(void)
{
    return HEAP_HELD(atomic_load_explicit(&generation, memory_order_relaxed));
}

/* Nobody else has it, or may change its state. */
static void set_holder(struct heap *h, uint32_t holder)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&h->holder, holder, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
}

static uint32_t holder_of(const struct heap *h)
{
    return atomic_load_explicit(&h->holder, memory_order_relaxed);
}

static bool is_busy(const struct heap *h)
{
    return atomic_load_explicit(&h->busy, memory_order_relaxed);
}

/* Nobody else has it: it comes from a stack, is new, or was seized by this thread. Busy first: once
 * it is held, others may seize it. */
static void set_busy(struct heap *h)
{
    atomic_store_explicit(&h->busy, true, memory_order_relaxed);
    set_holder(h, held_now());
}

static void set_idle(struct heap *h)
{
    heap_note_kept(h);
    heap_end(h);
}

static bool try_state(struct heap *h, uint32_t from, uint32_t to)
{
    uint32_t held = held_now();
    from |= held;
    return atomic_compare_exchange_strong_explicit(&h->holder, &from, held | to,
                                                   memory_order_acq_rel, memory_order_acquire);
}

/* 0: there have been as many heaps as there are numbers. */
static uintptr_t owner_make(void)
{
    uint32_t number = atomic_load_explicit(&heaps_made, memory_order_relaxed);
    if (number >= UNIT_NUMBERS)
        return 0;
    number = atomic_fetch_add_explicit(&heaps_made, 1, memory_order_relaxed);
    return number < UNIT_NUMBERS ? unit_owner(number) : 0;
}

static struct heap *heap_make(void)
{
    uintptr_t owner = owner_make();
    struct heap *h = owner != 0 ? meta_alloc(sizeof *h) : NULL;
    if (h == NULL)
        return NULL;
    h->strange = unit_strange_bits(owner);
    h->near.base = REGISTRY_FAR;
    owned_init(&h->owned, owner);
    set_busy(h);
    segment_count_heaps(1);
    if (unit_owner_number(owner) < HEAPS_NUMBERED)
        atomic_store_explicit(&numbered[unit_owner_number(owner)], h, memory_order_release);
    h->all_next = atomic_load_explicit(&all, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&all, &h->all_next, h, memory_order_release,
                                                  memory_order_relaxed))
        continue;
    return h;
}

/* As if seized, until it is busy: others look at all that is held. */
static bool try_adopt(struct heap *h, uint32_t now)
{
    uint32_t holder = holder_of(h);
    bool may_be = holder != 0 && holder != now && (holder & HEAP_STATES) == 0 && !is_busy(h) &&
                  h != heap_held;
    if (!may_be ||
        !atomic_compare_exchange_strong_explicit(&h->holder, &holder, now | HEAP_SEIZED,
                                                 memory_order_acquire, memory_order_relaxed))
        return false;
    set_busy(h);
    return true;
}

void heap_recount(struct heap *h)
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

static struct heap *adopt_vanished(void)
{
    uint32_t now = held_now();
    if (now == HEAP_HELD(0))
        return NULL;
    struct heap *h = atomic_load_explicit(&all, memory_order_acquire);
    while (h != NULL && !try_adopt(h, now))
        h = h->all_next;
    if (h != NULL) {
        heap_recount(h);
        outbuf_adopt(&h->out);
        runs_adopt(&h->runs);
        segment_count_heaps(1);
    }
    return h;
}

static struct heap *pop(lf_stack *stack)
{
    if (lf_stack_is_empty(stack))
        return NULL;
    lf_node *node = lf_stack_pop_mpmc(stack);
    if (node == NULL)
        return NULL;
    struct heap *h = LF_CONTAINER(node, struct heap, link);
    set_busy(h);
    segment_count_heaps(1);
    return h;
}

static struct heap *pop_parked(void)
{
    struct heap *h = pop(&parked);
    if (h == NULL)
        return NULL;
    atomic_fetch_sub_explicit(&parked_bytes, h->held_bytes, memory_order_relaxed);
    atomic_fetch_sub_explicit(&parked_count, 1, memory_order_relaxed);
    return h;
}

static struct heap *heap_obtain(void)
{
    struct heap *h = pop_parked();
    if (h == NULL)
        h = pop(&spare);
    if (h == NULL)
        h = adopt_vanished();
    if (h == NULL)
        h = heap_make();
    if (h == NULL)
        return NULL;
    atomic_store_explicit(&h->now, processor_clock(), memory_order_relaxed);
    set_pace(h, HEAP_YOUNG);
    if (h->grown > GROWN_LEAST)
        shrink_limits(h, young_limit); /* another thread's */
    owned_begin(&h->owned);
    return h;
}

/* Its out-buffer is empty. This may purge, so it comes before what others count on. */
static void go_out_of_use(struct heap *h)
{
    outbuf_leave(&h->out);
    segment_count_heaps(-1);
}

static void put(lf_stack *stack, struct heap *h)
{
    set_holder(h, 0);
    heap_end(h);
    lf_stack_push(stack, &h->link);
}

/* Of the bins: what is in its slabs is given up. */
static size_t bytes_held(const struct heap *h)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        bytes += (size_t)held(&h->bin[i]) * size_class_bytes[i];
    return bytes;
}

size_t heap_cached_bytes(void)
{
    struct heap *entered = heap_enter();
    size_t own = heap_is_sentinel(entered) ? 0 : bytes_held(entered);
    heap_leave(entered);
    return own + atomic_load_explicit(&parked_bytes, memory_order_relaxed);
}

static void park(struct heap *h)
{
    h->held_bytes = bytes_held(h);
    go_out_of_use(h);
    atomic_fetch_add_explicit(&parked_bytes, h->held_bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&parked_count, 1, memory_order_relaxed);
    put(&parked, h);
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

void heap_flush_bin(struct heap *h, struct bin *bin, unsigned class_no, int32_t count)
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
        heap_bin_ran_over(h, class_no);
}

void heap_flush_full(struct heap *h, unsigned class_no)
{
    struct bin *bin = &h->bin[class_no];
    int32_t count = flush_count(bin);
    unsigned by_turns = h->flushes++ % SIZE_CLASS_COUNT;
    set_now(h);
    owned_look_around(&h->owned);
    owned_look_at_oldest(&h->owned, by_turns);
    owned_keep_bounds(&h->owned, by_turns);
    heap_flush_bin(h, bin, class_no, count);
    note_passed(h, class_no, count);
}

void heap_dissolve(struct heap *h)
{
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        end_demand(h, i);
    outbuf_flush(&h->out, &h->owned);
    runs_drop(&h->runs);
    owned_disown_all(&h->owned);
}

/* By a thread that is there: a handler may have forked since the heap was taken. */
static bool is_seized(uint32_t holder)
{
    return (holder & HEAP_SEIZED) != 0 && (holder & ~HEAP_STATES) == held_now();
}

static bool try_leave(struct heap *h, uint32_t holder)
{
    uint32_t left = (is_seized(holder) ? holder : holder & ~HEAP_STATES) | HEAP_LEFT;
    return atomic_compare_exchange_strong_explicit(&h->holder, &holder, left, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

/* Of a heap that is busy, on its way into a stack: from here on nobody seizes it. Who is about to
 * has said so, and may be stopped before it finds it busy: that must not be written over. False: it
 * has all of it then. */
static bool close_to_others(struct heap *h)
{
    for (;;) {
        uint32_t holder = holder_of(h);
        if (!is_seized(holder)) {
            if (try_leave(h, holder))
                return true;
            continue;
        }
        heap_end(h);
        if (try_leave(h, holder))
            return false;
        heap_begin(h); /* it was let go meanwhile */
    }
}

static void dissolve_to_spare(struct heap *h)
{
    heap_dissolve(h);
    go_out_of_use(h);
    put(&spare, h);
}

/* Back into a stack: whole if the parked heaps may hold as much, for the blocks in its bins are
 * worth keeping; it owns no slab there. Else the blocks go back while the slabs are its own yet,
 * which takes no claims. */
static void shelve(struct heap *h)
{
    if (!close_to_others(h))
        return;
    size_t parked_now = atomic_load_explicit(&parked_bytes, memory_order_relaxed);
    if (parked_now + bytes_held(h) <= PARKED_BYTES) {
        outbuf_flush(&h->out, &h->owned);
        runs_drop(&h->runs);
        owned_disown_all(&h->owned);
        park(h);
        return;
    }
    dissolve_to_spare(h);
}

/* As many as there are now: others may park meanwhile. */
bool heap_dissolve_parked(void)
{
    bool any = false;
    int32_t left = atomic_load_explicit(&parked_count, memory_order_relaxed);
    for (struct heap *h; left-- > 0 && (h = pop_parked()) != NULL; any = true) {
        if (close_to_others(h))
            dissolve_to_spare(h);
    }
    return any;
}

/* ---- the slow paths' door ---- */

/* False: another has seized it, or is about to; or a frame of this thread is in a slow path. */
static bool try_busy(struct heap *h)
{
    if (HAK_UNLIKELY(is_busy(h)))
        return false;
    if (HAK_LIKELY(heap_begin(h) == held_now()))
        return true;
    heap_end(h);
    return false;
}

/* The thread's own; while another has seized it, a borrowed one. NULL: there is no memory for that.
 * It is the thread's all the same: a frame that a handler has interrupted may be about to use its
 * bins. */
static struct heap *open_own(struct heap *h)
{
    return HAK_LIKELY(try_busy(h)) ? h : heap_obtain();
}

/* A handler may have attached a heap between this thread's look at heap_current and its own
 * attaching. */
static struct heap *attach(void)
{
    if (heap_held != NULL)
        return open_own(heap_held);
    heap_held = heap_obtain();
    return heap_held;
}

struct heap *heap_open(struct heap *entered)
{
    variant_slow_enter();
    if (!heap_is_sentinel(entered))
        return open_own(entered);
    return entered == heap_sentinel(HEAP_START) ? attach() : heap_obtain();
}

/* By how it was opened: in a handler, heap_held may be a heap that its thread was about to
 * leave. */
static bool is_borrowed(const struct heap *entered, const struct heap *work)
{
    bool attached = entered == heap_sentinel(HEAP_START) && work == heap_held;
    return work != entered && !attached;
}

/* What the thread goes on with. A borrowed heap goes back. */
static struct heap *close_slow(struct heap *entered, struct heap *work)
{
    if (work == NULL)
        return entered;
    if (!is_borrowed(entered, work)) {
        set_idle(work);
        return work;
    }
    shelve(work);
    return entered;
}

void heap_close(struct heap *entered, struct heap *work)
{
    struct heap *next = close_slow(entered, work);
    variant_slow_leave();
    heap_leave(next);
    if (VARIANT_HEAP_PER_THREAD && !heap_is_sentinel(next))
        thread_watch_exit();
}

/* ---- threads and forks ---- */

bool heap_is_broken(struct heap *h)
{
    return is_busy(h);
}

/* False: who has seized it has it from now on. It is this thread's until it is busy, or left: a
 * handler may fork, and the child adopt what is nobody's. */
static bool take_or_leave(struct heap *h)
{
    while (!heap_is_broken(h)) {
        if (try_busy(h))
            return true;
        if (try_state(h, HEAP_SEIZED, HEAP_SEIZED | HEAP_LEFT))
            return false;
    }
    return false;
}

/* A handler may have left malloc or free by longjmp, or ended the thread: the heap is whole all the
 * same, but for the counts of its bins, unless that was in a slow path. */
void heap_retire(struct heap *entered)
{
    struct heap *h = heap_held;
    if (h == NULL || heap_is_broken(h))
        return;
    variant_slow_enter();
    bool taken = take_or_leave(h);
    heap_held = NULL;
    if (taken && entered == heap_sentinel(HEAP_INSIDE))
        heap_recount(h);
    if (taken)
        shelve(h);
    variant_slow_leave();
    COUNTERS_MERGE();
}

/* ---- taking from idle heaps ---- */

struct heap *heap_of_owner(uintptr_t owner)
{
    uintptr_t number = unit_owner_number(owner);
    return number < HEAPS_NUMBERED ? atomic_load_explicit(&numbered[number], memory_order_acquire)
                                   : NULL;
}

uint16_t heap_now(const struct heap *h)
{
    return now_of(h);
}

struct heap *heap_first(void)
{
    return atomic_load_explicit(&all, memory_order_acquire);
}

bool heap_is_idle(struct heap *h, uint16_t now)
{
    uint16_t since = (uint16_t)(now - now_of(h)); /* just below all: it has come to one meanwhile */
    return holder_of(h) == held_now() && !is_busy(h) && is_long(since);
}

/* In the child of a fork, one of an older generation is for whoever adopts it. */
static bool is_for_good(uint32_t holder)
{
    return (holder & HEAP_LEFT) != 0 && (holder & ~HEAP_STATES) == held_now();
}

static void let_go(struct heap *h)
{
    uint32_t holder = atomic_load_explicit(&h->holder, memory_order_acquire);
    while (!is_for_good(holder))
        if (atomic_compare_exchange_weak_explicit(&h->holder, &holder, holder & ~HEAP_STATES,
                                                  memory_order_acq_rel, memory_order_acquire))
            return;
    set_busy(h);
    heap_recount(h); /* its thread may have left it between two steps of a fast path */
    shelve(h);
}

/* Its thread is in a slow path if it came to that before the barrier, and finds what is said here
 * if it comes after it. */
bool heap_seize(struct heap *h)
{
    if (is_busy(h) || !try_state(h, 0, HEAP_SEIZED))
        return false;
    if (os_barrier_all() && !atomic_load_explicit(&h->busy, memory_order_acquire))
        return true;
    let_go(h);
    return false;
}

void heap_end_seizure(struct heap *h)
{
    heap_note_kept(h);
    let_go(h);
}

/* ---- mending, in the child of a fork ---- */

#define LOST_BUCKETS 64u

/* Heaps of threads that vanished in a slow path, and those that one had seized, by number. */
static struct heap *lost[LOST_BUCKETS]; /* by the only thread that there is */

static struct heap **lost_bucket(uintptr_t token)
{
    return &lost[(token >> UNIT_OFFSET_BITS) % LOST_BUCKETS];
}

static struct heap *next_lost(struct heap *h)
{
    return h->link.next != NULL ? LF_CONTAINER(h->link.next, struct heap, link) : NULL;
}

static bool is_lost(struct heap *h)
{
    uint32_t holder = holder_of(h);
    bool was_busy = holder != 0 && holder != held_now() && is_busy(h);
    return was_busy || (holder & HEAP_STATES) != 0;
}

/* Its lists of slabs may be torn. Its bins are whole, and so is each slot of the out-buffer, but
 * how many there are in a bin, and which slots are open, need not be right. */
static void forget_slabs(struct heap *h)
{
    owned_init(&h->owned, h->owned.owner);
    magazine_mend(&h->owned.magazine);
    outbuf_mend(&h->out);
    runs_mend(&h->runs);
}

static bool collect_lost(void)
{
    bool any = false;
    for (struct heap *h = atomic_load_explicit(&all, memory_order_acquire); h != NULL;
         h = h->all_next) {
        if (!is_lost(h))
            continue;
        struct heap **bucket = lost_bucket(h->owned.owner);
        h->link.next = *bucket != NULL ? &(*bucket)->link : NULL;
        *bucket = h;
        forget_slabs(h);
        any = true;
    }
    return any;
}

/* Who vanished may have changed the list, or marks, and not the counts. A list that goes round was
 * written to by the program: it is dropped. */
static void count_slab_owner(struct slab *s)
{
    uint32_t count = 0, carved = slab_carved(s);
    struct block *b = s->free;
    s->marked = slab_count_marks_owner(s);
    for (; b != NULL && count <= carved; b = b->next, count++)
        s->free_last = b;
    if (b != NULL)
        s->free = NULL;
    s->free_count = b == NULL ? count : 0;
    slab_set_used_owner(s, carved - slab_free_count_owner(s));
}

static bool is_of_lost(uintptr_t owner)
{
    struct heap *h = unit_word_is_slab(owner) ? *lost_bucket(owner) : NULL;
    while (h != NULL && !is_token_of(&h->owned, owner))
        h = next_lost(h);
    return h != NULL;
}

/* Nobody's again. What was freed into it stays where it is, for who claims it: the child would copy
 * each page that is written to. */
static void mend_slab(struct slab *s)
{
    if (!is_of_lost(atomic_load_explicit(&s->owner, memory_order_relaxed)))
        return;
    count_slab_owner(s);
    bool room = slab_has_room_owner(s) || !lf_stack_is_empty(&s->remote);
    slab_set_words(s, unit_word(0, slab_class(s)));
    atomic_store_explicit(&s->owner, room ? SLAB_SHARED : SLAB_UNOWNED, memory_order_release);
    if (room)
        shared_push(s);
}

/* From here on they can be adopted, but for the child's own. */
static void release_lost(void)
{
    for (unsigned i = 0; i < LOST_BUCKETS; i++) {
        for (struct heap *h = lost[i], *next; h != NULL; h = next) {
            next = next_lost(h); /* a handler may adopt it */
            if (h == heap_held)
                heap_recount(h);
            set_holder(h, holder_of(h) & ~HEAP_STATES);
            heap_end(h);
        }
        lost[i] = NULL;
    }
}

/* All that threads had in their hands, they had in slow paths. */
static void mend(void)
{
    if (!collect_lost())
        return;
    segment_take_back();
    whale_take_back();
    segment_each_slab(mend_slab);
    release_lost();
}

/* A handler that forks inside of malloc or free: what is in flight may be what it interrupted. */
static bool is_interrupted(void)
{
    return heap_current == heap_sentinel(HEAP_INSIDE) ||
           (heap_held != NULL && heap_is_broken(heap_held));
}

void heap_after_fork_child(void)
{
    atomic_fetch_add_explicit(&generation, 1, memory_order_relaxed);
    if (heap_held != NULL && holder_of(heap_held) != 0)
        set_holder(heap_held, held_now() | (holder_of(heap_held) & HEAP_STATES));
    segment_set_heaps(heap_held != NULL);
    outbuf_only_user(heap_held != NULL ? &heap_held->out : NULL);
    runs_only_user(heap_held != NULL ? &heap_held->runs : NULL);
    if (!is_interrupted())
        mend();
}
