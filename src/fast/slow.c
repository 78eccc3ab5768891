/*
 * slow.c: see slow.h for the steps.
 *
 * SYNCHRONIZATION: all by the thread that entered.
 */
#include "slow.h"
#include "bins.h"
#include "counters.h"
#include "foreign.h"
#include "relief.h"
#include "../global/os.h"
#include "../global/run.h"
#include "../global/touched.h"
#include "../global/whale.h"

#include <errno.h>

#define REFILLS_A_PURGE 64 /* so that what stays shrinks in time */
#define LARGES_A_LOOK   16 /* runs and whales that come or go */
#define BRIEF_MOST      16 /* runs that come and go by the short way, until one takes the long */
#define FEW_BACK        4  /* blocks at most, of a bin that is seldom wanted */
#define REFILL_ENOUGH   16 /* blocks: beyond, or where some were freshly cut, no slab is asked */
#define PASSED_ON       64 /* blocks, from a borrowed heap: its bin may be of a thread that had many */

/* ---- malloc ---- */

bool give_back_all(struct heap *work, long keep)
{
    if (work != NULL)
        heap_dissolve(work);
    bool any = relief_all();
    any |= heap_dissolve_parked();
    any |= whale_drop_cache();
    any |= segment_purge(keep);
    if (keep == 0)
        any |= segment_drop_empty();
    rcu_poll();
    return any;
}

static void bin_fill(struct bin *bin, struct chain chain)
{
    chain_last(chain)->next = bin->head;
    atomic_signal_fence(memory_order_seq_cst); /* the list is whole at every instruction */
    bin->head = chain.first;
    bin->room -= (int32_t)chain.count;
}

static bool refill(struct heap *h, unsigned class_no)
{
    struct bin *bin = &h->bin[class_no];
    struct slab *s = owned_find(&h->owned, class_no);
    int32_t got = 0, enough = bin->limit / 2 < REFILL_ENOUGH ? bin->limit / 2 : REFILL_ENOUGH;
    while (s != NULL) {
        bool cut = !slab_has_free_owner(s);
        struct chain chain = owned_take(&h->owned, s);
        bin_fill(bin, chain);
        got += (int32_t)chain.count;
        s = got < enough && !cut ? TAILQ_FIRST(&h->owned.partial[class_no]) : NULL;
    }
    return got > 0;
}

/* Of a slab that goes on to whoever wants some next. */
static bool refill_few(struct heap *h, unsigned class_no)
{
    struct slab *s = owned_find(&h->owned, class_no);
    if (s != NULL)
        bin_fill(&h->bin[class_no], owned_take_few(&h->owned, s, h->demand[class_no]));
    return s != NULL;
}

static bool fill_empty(struct heap *h, unsigned class_no)
{
    return bins_in_demand(h, class_no) ? refill(h, class_no) : refill_few(h, class_no);
}

static bool refill_or_give_back(struct heap *h, unsigned class_no)
{
    bins_ran_out(h, class_no);
    if (fill_empty(h, class_no))
        return true;
    give_back_all(h, 0);
    return fill_empty(h, class_no);
}

static void purge_some(size_t taken)
{
    segment_purge_some((long)units_for(taken));
    whale_decay();
    whale_purge_some();
}

/* Who has taken new memory may have some in bins that are not used, and idle threads in slabs. */
static void look_for_unused(struct heap *h, unsigned class_no)
{
    if (HAK_UNLIKELY(bins_may_be_stale(h)))
        bins_shrink_stale(h);
    if (HAK_UNLIKELY(relief_is_due(h)))
        relief_look(h, class_no);
}

/* The bin of a heap that was just obtained may have blocks. */
static void *small_alloc(struct heap *h, unsigned class_no)
{
    outbuf_tick(&h->out, &h->owned);
    bins_begin_refill(h);
    if (h->refills % REFILLS_A_PURGE == 0) {
        relief_of_watched(h);
        purge_some(0);
    }
    look_for_unused(h, class_no);
    relief_if_awaited(h);
    if (h->bin[class_no].head == NULL && !refill_or_give_back(h, class_no))
        return NULL;
    return heap_pop(h, SIZE_BIN_PLACE(class_no));
}

static void *map_run(size_t size, size_t alignment, size_t run_most, bool *zeroed)
{
    bool may_be = size <= run_most && alignment <= SEGMENT_SIZE;
    return may_be ? run_alloc(size, alignment, zeroed) : NULL;
}

/* One of the other kind as well: there may be addresses for a whale and not for a segment, or none,
 * but units in a row. */
static void *map_large(size_t size, size_t alignment, size_t run_most, bool *zeroed)
{
    bool zeroes = *zeroed;
    size = max_size(size, 1);
    void *p = map_run(size, alignment, run_most, zeroed);
    if (p == NULL)
        p = whale_alloc(size, alignment, zeroed);
    if (p == NULL)
        p = map_run(size, alignment, SIZE_RUN_MAX, zeroed);
    if (p == NULL)
        *zeroed = zeroes;
    return p;
}

/* Else who has come to use large blocks only would keep all that was for small ones. */
static void count_large(struct heap *h)
{
    h->larges += 1 + BRIEF_MOST - h->brief;
    h->brief = BRIEF_MOST;
    if (h->larges < LARGES_A_LOOK)
        return;
    h->larges = 0;
    bins_begin_refill(h);
}

/* A run that the heap has kept. */
static void *take_kept(struct heap *h, size_t size, size_t alignment, size_t run_most, bool *zeroed)
{
    void *p = size <= run_most && alignment <= UNIT_SIZE ? runs_take(&h->runs, size) : NULL;
    *zeroed &= p == NULL;
    return p;
}

static size_t longest_run(size_t size)
{
    return size <= SIZE_GROWN_RUN || touched_mostly() ? SIZE_RUN_MAX : SIZE_GROWN_RUN;
}

/* What is kept of the other kind may be too much now; and idle heaps may have what is wanted. */
static void took_new(struct heap *h, unsigned units)
{
    h->owned.fresh += units;
    purge_some(units * UNIT_SIZE);
}

/* Of what was just mapped, or taken: a bounded part, however much is reserved. */
static unsigned new_units(void *p, size_t size, bool zeroed)
{
    unsigned units = units_for(min_size(size, SEGMENT_SIZE));
    if (zeroed)
        return units;
    bool is_run = unit_word_kind(registry_word(p)) == UNIT_RUN;
    return is_run ? segment_first_use(segment_of(p), segment_unit_of(p), units) : 0;
}

/* Up to `run_most` bytes it is a run, if there is one. */
static void *large_in(struct heap *h, size_t size, size_t alignment, size_t run_most, bool *zeroed)
{
    if (size > SIZE_MAX_ASK || alignment > SIZE_MAX_ASK / 2)
        return NULL;
    outbuf_tick(&h->out, &h->owned);
    count_large(h);
    look_for_unused(h, 0);
    void *p = take_kept(h, size, alignment, run_most, zeroed);
    bool kept = p != NULL;
    if (p == NULL)
        p = map_large(size, alignment, run_most, zeroed);
    if (p == NULL) {
        give_back_all(h, 0); /* whatever it says: what the heap itself had is free now */
        p = map_large(size, alignment, run_most, zeroed);
    }
    if (p == NULL)
        return NULL;
    owned_takes(&h->owned, units_for(size));
    unsigned units = kept ? 0 : new_units(p, size, *zeroed);
    if (units != 0)
        took_new(h, units);
    return p;
}

static void *done(struct heap *entered, struct heap *work, void *p)
{
    heap_close(entered, work);
    if (HAK_UNLIKELY(p == NULL))
        errno = ENOMEM;
    return p;
}

/* Once more, if there is no memory for a heap. */
static struct heap *open_to_allocate(struct heap *entered)
{
    struct heap *h = heap_open(entered);
    if (HAK_LIKELY(h != NULL))
        return h;
    give_back_all(NULL, 0);
    variant_slow_leave();
    return heap_open(entered);
}

/* Some of what it has beside the block that was asked for goes to the thread's own heap: who has
 * seized that may be stopped for long. */
static void pass_to_own(struct heap *own, struct heap *borrowed, unsigned class_no)
{
    struct bin *from = &borrowed->bin[class_no];
    int32_t most = from->limit - from->room;
    most = most < PASSED_ON ? most : PASSED_ON;
    for (struct block *b; most > 0 && (b = from->head) != NULL; most--) {
        from->head = b->next;
        from->room++;
        bin_fill(&own->bin[class_no], chain_of_one(b));
    }
}

static void *small_in(struct heap *entered, struct heap *h, unsigned class_no)
{
    void *p = small_alloc(h, class_no);
    if (HAK_UNLIKELY(h != entered) && !heap_is_sentinel(entered))
        pass_to_own(entered, h, class_no);
    return p;
}

static HAK_NOINLINE void *malloc_long_way(size_t size, struct heap *entered)
{
    COUNT(malloc_slow);
    bool zeroed = false;
    struct heap *h = open_to_allocate(entered);
    void *p = NULL;
    if (HAK_LIKELY(h != NULL))
        p = size <= SIZE_SLAB_MAX ? small_in(entered, h, size_to_class(size))
                                  : large_in(h, size, SIZE_GRANULE, longest_run(size), &zeroed);
    return done(entered, h, p);
}

/* One that the heap has kept, by the short way. */
static void *take_brief(struct heap *h, unsigned units)
{
    if (!heap_begin_brief(h))
        return NULL;
    void *p = runs_take_exact(&h->runs, units);
    if (p != NULL)
        h->owned.taken += units;
    else
        h->brief++; /* the long way counts it */
    heap_end(h);
    return p;
}

void *malloc_slow(size_t size, struct heap *entered)
{
    bool may_be = size > SIZE_SLAB_MAX && size <= SIZE_GROWN_RUN;
    void *p = may_be ? take_brief(entered, units_for(size)) : NULL;
    if (p == NULL)
        return malloc_long_way(size, entered);
    heap_leave(entered);
    return p;
}

void *large_alloc(size_t size, size_t alignment, bool *zeroed)
{
    struct heap *entered = heap_enter();
    struct heap *h = open_to_allocate(entered);
    void *p = h != NULL ? large_in(h, size, alignment, longest_run(size), zeroed) : NULL;
    return done(entered, h, p);
}

/* What was found for one that grows, if anything. */
static void *count_roomy(struct heap *h, void *p, size_t size)
{
    if (p == NULL)
        return NULL;
    outbuf_tick(&h->out, &h->owned);
    count_large(h);
    owned_takes(&h->owned, units_for(size));
    return p;
}

void *large_alloc_to_grow(size_t size)
{
    bool zeroed = false;
    struct heap *entered = heap_enter();
    struct heap *h = open_to_allocate(entered);
    void *p = h != NULL ? count_roomy(h, whale_alloc_to_grow(size), size) : NULL;
    if (h != NULL && p == NULL)
        p = large_in(h, size, SIZE_GRANULE, SIZE_GROWN_RUN, &zeroed);
    return done(entered, h, p);
}

void *large_roomier(void *whale, size_t size)
{
    struct heap *entered = heap_enter();
    struct heap *h = heap_open(entered);
    void *p = h != NULL ? count_roomy(h, whale_roomier(whale, size), size) : NULL;
    heap_close(entered, h);
    return p;
}

/* A whale that has shrunk to a run's size is moved, but for one that was as short from the start. */
static void *resize_in(void *block, uintptr_t word, size_t bytes, size_t size)
{
    if (word == UNIT_WHALE && (size > SIZE_GROWN_RUN || (size <= bytes && size >= bytes / 2)))
        return whale_resize(block, size);
    if (unit_word_kind(word) == UNIT_RUN && size > SIZE_RUN_LEAST && size <= SIZE_RUN_MAX)
        return run_resize(block, size) ? block : NULL;
    return NULL;
}

void *large_resize(void *block, uintptr_t word, size_t bytes, size_t size)
{
    struct heap *entered = heap_enter();
    struct heap *h = heap_open(entered);
    void *resized = resize_in(block, word, bytes, size);
    if (resized != NULL && h != NULL && size > bytes)
        owned_takes(&h->owned, units_for(size - bytes));
    heap_close(entered, h);
    return resized;
}

/* ---- free ---- */

/* All of a bin that keeps none, which is but a few blocks. What is seldom wanted is of many slabs,
 * each cold: a few blocks at a time, so that no free takes long. */
static int32_t overflow_count(const struct heap *h, unsigned class_no)
{
    int32_t limit = h->bin[class_no].limit;
    if (limit == 0)
        return BINS_FLUSH_MOST;
    return limit / 8 < FEW_BACK ? 1 + limit / 8 : FEW_BACK;
}

/* Back goes the hot part at the head: the colder the tail, the dearer the walk. */
static void flush_overflow(struct heap *h, unsigned class_no)
{
    outbuf_tick(&h->out, &h->owned);
    relief_if_awaited(h);
    if (bins_in_demand(h, class_no)) {
        bins_flush_full(h, class_no);
        return;
    }
    bins_flush(h, &h->bin[class_no], class_no, overflow_count(h, class_no));
    bins_ran_over(h, class_no);
}

static void check_block(struct slab *s, void *p)
{
    if (HAK_UNLIKELY(!slab_is_block_start(s, p)))
        os_die("free(%p): not the start of a block, in a slab of %zu byte blocks; aborting", p,
               slab_block_bytes(s));
}

static void keep(struct heap *h, unsigned class_no, void *p)
{
    if (HAK_UNLIKELY(!heap_push(h, SIZE_BIN_PLACE(class_no), p)))
        flush_overflow(h, class_no);
}

/* Nobody's slab comes here from a sentinel only, or if the word has changed meanwhile. */
static void slab_free(struct heap *h, void *p)
{
    struct slab *s = slab_of(p);
    check_block(s, p);
    if (h == NULL) {
        ((struct block *)p)->next = NULL;
        remote_push_ownerless(s, chain_of_one(p));
    } else if (h->bin[slab_class(s)].limit != 0 &&
               (owned_has(&h->owned, s) || owned_claim(&h->owned, s))) {
        keep(h, slab_class(s), p);
    } else {
        outbuf_open(&h->out, &h->owned, s, p);
        outbuf_tick(&h->out, &h->owned);
    }
}

/* Without a heap there is no telling. */
static bool comes_again(struct heap *h, size_t bytes)
{
    if (h == NULL)
        return false;
    count_large(h);
    return owned_returns(&h->owned, units_for(bytes));
}

static void check_run(void *p)
{
    if (HAK_UNLIKELY((uintptr_t)p % UNIT_SIZE != 0))
        os_die("free(%p): not the start of a block of %zu bytes; aborting", p, run_bytes(p));
}

/* Who only frees keeps none. */
static void free_run(struct heap *h, void *p, bool may_be_kept)
{
    size_t bytes = run_bytes(p);
    check_run(p);
    touched_note(p, bytes);
    bool again = comes_again(h, bytes);
    if (again && may_be_kept) {
        runs_keep(&h->runs, p);
        return;
    }
    if (!again && h != NULL)
        runs_drop_one(&h->runs);
    run_free(p, again);
}

void large_free_moved(void *run)
{
    COUNT(free);
    COUNT(free_slow);
    struct heap *entered = heap_enter();
    struct heap *h = heap_open(entered);
    free_run(h, run, false);
    heap_close(entered, h);
}

static void free_whale(struct heap *h, void *p)
{
    size_t bytes = whale_bytes(p);
    touched_note(p, bytes);
    whale_free(p, comes_again(h, bytes));
}

static void free_by_word(struct heap *h, void *p, uintptr_t word)
{
    switch (unit_word_kind(word)) {
    case UNIT_FREE:
    case UNIT_KEPT:
        os_die("free(%p): nothing is allocated there (a double free?); aborting", p);
    case UNIT_RUN:
        free_run(h, p, true);
        break;
    case UNIT_WHALE:
        free_whale(h, p);
        break;
    default:
        slab_free(h, p);
    }
}

static void free_slowly(void *p, struct heap *entered, uintptr_t word)
{
    COUNT(free_slow);
    struct heap *h = heap_open(entered);
    free_by_word(h, p, word);
    if (h != NULL)
        relief_if_awaited(h);
    heap_close(entered, h);
}

static HAK_NOINLINE void pass_on_slowly(struct heap *h, void *p)
{
    uintptr_t word = registry_word(p);
    if (outbuf_start(&h->out, unit_word_class(word), p))
        heap_leave(h);
    else
        free_slowly(p, h, word);
}

/* The block is alone in the bin, so its link needs no reading, which would be to wait for its
 * line. */
static void pass_on(struct heap *h, unsigned class_no, void *p)
{
    h->bin[class_no].head = NULL;
    atomic_signal_fence(memory_order_seq_cst); /* in one list at most */
    h->bin[class_no].room = 0;
    if (HAK_LIKELY(outbuf_add(&h->out, p)))
        heap_leave(h);
    else
        pass_on_slowly(h, p);
}

/* By a borrowed heap. */
static int32_t borrowed_count(const struct bin *bin)
{
    int32_t half = 1 + bin->limit / 2;
    return half < BINS_FLUSH_MOST ? half : BINS_FLUSH_MOST;
}

static HAK_NOINLINE void free_flush(struct heap *h, unsigned class_no)
{
    COUNT(free_slow);
    struct heap *work = heap_open(h);
    if (HAK_LIKELY(work == h))
        flush_overflow(h, class_no);
    else if (work != NULL)
        bins_flush(work, &h->bin[class_no], class_no, borrowed_count(&h->bin[class_no]));
    heap_close(h, work);
}

/* A bin that keeps none has just this block, unless its thread once vanished or left between two
 * steps. (That free hands on the bin's place instead costs it an instruction at each call.) `room`
 * is loaded by itself: a load of both counts at once can't be forwarded from the store of one, and
 * waits until the block's line has come. */
HAK_NOINLINE void free_overflow(void *p, struct heap *h)
{
    unsigned class_no = unit_word_class(registry_word(p));
    int32_t room = h->bin[class_no].room;
    HAK_OPAQUE(room);
    if (HAK_LIKELY(h->bin[class_no].limit == 0 && room == -1))
        pass_on(h, class_no, p);
    else
        free_flush(h, class_no);
}

/* False: not another's, or what the slot holds must be sent off first (there may be no slots
 * yet). */
static bool send_first(struct heap *h, void *p, uintptr_t word)
{
    return unit_word_has_owner(word) && !heap_is_sentinel(h) &&
           outbuf_start(&h->out, unit_word_class(word), p);
}

/* The heap keeps it, by the short way. */
static bool keep_brief(struct heap *h, void *p, unsigned units)
{
    if ((uintptr_t)p % UNIT_SIZE != 0 || units * UNIT_SIZE > SIZE_GROWN_RUN || !heap_begin_brief(h))
        return false;
    bool kept = owned_comes_again(&h->owned) && runs_keep_one_more(&h->runs, p, units);
    if (kept) {
        h->owned.returned += units;
        heap_note_kept(h);
    } else {
        h->brief++;
    }
    heap_end(h);
    return kept;
}

static HAK_NOINLINE void free_unsent(void *p, struct heap *entered)
{
    uintptr_t word = registry_word(p);
    if (heap_keeps(entered, word)) {
        registry_go_near(&entered->near, p);
        free_keep(entered, unit_word_place(word), p);
    } else if (send_first(entered, p, word)) {
        heap_leave(entered);
    } else if (word == UNIT_FOREIGN) {
        heap_leave(entered);
        foreign_free(p);
    } else if (unit_word_kind(word) == UNIT_RUN && keep_brief(entered, p, unit_word_units(word))) {
        heap_leave(entered);
    } else {
        free_slowly(p, entered, word);
    }
}

HAK_NOINLINE void free_elsewhere(void *p, struct heap *entered)
{
    if (p == NULL || HAK_LIKELY(outbuf_add(&entered->out, p)))
        heap_leave(entered);
    else
        free_unsent(p, entered);
}
