/*
 * heap.c: heaps come, go, and change hands.
 *
 * SYNCHRONIZATION
 * - `parked` and `spare` are pushed and popped singly (pop_mpmc); heaps are type-stable.
 * - `all` is push-only: the CAS that publishes a heap (release) pairs with the acquiring load of the
 *   search in adopt_vanished.
 * - `holder`: 0 while in a stack. In the child of a fork, a heap whose holder is of an older generation
 *   belongs to a thread that vanished. If that thread was not in a slow path, the heap is whole (the
 *   fast paths leave it so at every instruction) and is adopted by CAS; else it is left alone for
 *   ever.
 */
#include "heap.h"
#include "counters.h"
#include "thread.h"
#include "../global/meta.h"

#define BIN_BYTES    KIB(64)
#define BIN_LEAST    4
#define BIN_MOST     4096
#define PARKED_BYTES MIB(16) /* free blocks in all parked heaps together */

const struct heap heap_sentinels[HEAP_SENTINELS];
VARIANT_HEAP_STORAGE struct heap *heap_current = (struct heap *)&heap_sentinels[HEAP_START];
static VARIANT_HEAP_STORAGE struct heap *heap_held VARIANT_HEAP_MODEL;

static lf_stack parked;
static lf_stack spare;
static _Atomic(size_t) parked_bytes; /* atomic, relaxed: what the parked heaps hold */
static _Atomic(struct heap *) all;   /* atomic, push only */
static _Atomic(uint32_t) generation; /* atomic, relaxed: forks since the first process */

/* ---- making and finding ---- */

static int32_t bin_limit(unsigned class_no)
{
    size_t fit = BIN_BYTES / size_class_bytes[class_no];
    return (int32_t)min_size(max_size(fit, BIN_LEAST), BIN_MOST);
}

static void hold(struct heap *h)
{
    atomic_store_explicit(&h->holder, 1 + atomic_load_explicit(&generation, memory_order_relaxed),
                          memory_order_relaxed);
}

static struct heap *heap_make(void)
{
    struct heap *h = meta_alloc(sizeof *h);
    if (h == NULL)
        return NULL;
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        h->bin[i].room = h->bin[i].limit = bin_limit(i);
    owned_init(&h->owned, h->bin);
    hold(h);
    h->all_next = atomic_load_explicit(&all, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&all, &h->all_next, h, memory_order_release,
                                                  memory_order_relaxed))
        continue;
    return h;
}

static bool try_adopt(struct heap *h, uint32_t now)
{
    uint32_t holder = atomic_load_explicit(&h->holder, memory_order_relaxed);
    return holder != 0 && holder != now && !atomic_load_explicit(&h->busy, memory_order_relaxed) &&
           atomic_compare_exchange_strong_explicit(&h->holder, &holder, now, memory_order_acquire,
                                                   memory_order_relaxed);
}

static struct heap *adopt_vanished(void)
{
    uint32_t now = 1 + atomic_load_explicit(&generation, memory_order_relaxed);
    if (now == 1)
        return NULL;
    struct heap *h = atomic_load_explicit(&all, memory_order_acquire);
    while (h != NULL && !try_adopt(h, now))
        h = h->all_next;
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
    hold(h);
    return h;
}

static struct heap *pop_parked(void)
{
    struct heap *h = pop(&parked);
    if (h != NULL)
        atomic_fetch_sub_explicit(&parked_bytes, h->held_bytes, memory_order_relaxed);
    return h;
}

static struct heap *heap_obtain(void)
{
    struct heap *h = pop_parked();
    if (h == NULL)
        h = pop(&spare);
    if (h == NULL)
        h = adopt_vanished();
    return h != NULL ? h : heap_make();
}

static void put(lf_stack *stack, struct heap *h)
{
    atomic_store_explicit(&h->holder, 0, memory_order_relaxed);
    lf_stack_push(stack, &h->link);
}

static size_t bytes_held(const struct heap *h)
{
    size_t bytes = h->owned.idle_bytes;
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        bytes += (size_t)(h->bin[i].limit - h->bin[i].room) * size_class_bytes[i];
    return bytes;
}

static void park(struct heap *h)
{
    h->held_bytes = bytes_held(h);
    atomic_fetch_add_explicit(&parked_bytes, h->held_bytes, memory_order_relaxed);
    put(&parked, h);
}

/* ---- the slow paths' door ---- */

static bool is_sentinel(const struct heap *h)
{
    return (uintptr_t)h - (uintptr_t)heap_sentinels < sizeof heap_sentinels;
}

static void set_busy(struct heap *h, bool busy)
{
    atomic_store_explicit(&h->busy, busy, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
}

struct heap *heap_open(struct heap *entered)
{
    variant_slow_enter();
    struct heap *work = is_sentinel(entered) ? heap_obtain() : entered;
    if (work == NULL)
        return NULL;
    if (entered == heap_sentinel(HEAP_START))
        heap_held = work;
    set_busy(work, true);
    return work;
}

/* What the thread goes on with. A borrowed heap goes back. */
static struct heap *close_slow(struct heap *entered, struct heap *work)
{
    if (work == NULL)
        return entered;
    atomic_signal_fence(memory_order_seq_cst);
    set_busy(work, false);
    if (work == entered || entered == heap_sentinel(HEAP_START))
        return work;
    outbuf_flush(&work->out, &work->owned);
    park(work);
    return entered;
}

void heap_close(struct heap *entered, struct heap *work)
{
    struct heap *next = close_slow(entered, work);
    variant_slow_leave();
    heap_leave(next);
    if (VARIANT_HEAP_PER_THREAD && next != entered)
        thread_watch_exit();
}

/* ---- flushing ---- */

/* The blocks at the start of the list that are of one slab. */
static struct chain same_slab(struct block *first, int32_t most)
{
    struct chain chain = {first, first, 1};
    while ((int32_t)chain.count < most && chain.last->next != NULL &&
           (uintptr_t)chain.last->next >> UNIT_SHIFT == (uintptr_t)first >> UNIT_SHIFT) {
        chain.last = chain.last->next;
        chain.count++;
    }
    return chain;
}

void heap_flush_bin(struct heap *h, struct bin *bin, int32_t count)
{
    while (count > 0 && bin->head != NULL) {
        struct chain chain = same_slab(bin->head, count);
        bin->head = chain.last->next;
        bin->room += (int32_t)chain.count;
        count -= (int32_t)chain.count;
        owned_push_remote(&h->owned, slab_of(chain.first), chain);
    }
}

void heap_dissolve(struct heap *h)
{
    outbuf_flush(&h->out, &h->owned);
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        heap_flush_bin(h, &h->bin[i], INT32_MAX);
    owned_disown_all(&h->owned);
}

bool heap_dissolve_parked(void)
{
    bool any = false;
    for (struct heap *h; (h = pop_parked()) != NULL; any = true) {
        set_busy(h, true);
        heap_dissolve(h);
        set_busy(h, false);
        put(&spare, h);
    }
    return any;
}

/* ---- threads and forks ---- */

void heap_retire(struct heap *h)
{
    variant_slow_enter();
    set_busy(h, true);
    outbuf_flush(&h->out, &h->owned);
    size_t parked_now = atomic_load_explicit(&parked_bytes, memory_order_relaxed);
    bool whole = parked_now + bytes_held(h) <= PARKED_BYTES;
    if (whole)
        owned_disown_all(&h->owned); /* it is the blocks in the bins that are worth keeping */
    else
        heap_dissolve(h);
    set_busy(h, false);
    heap_held = NULL;
    if (whole)
        park(h);
    else
        put(&spare, h);
    variant_slow_leave();
    COUNTERS_MERGE();
}

void heap_after_fork_child(void)
{
    atomic_fetch_add_explicit(&generation, 1, memory_order_relaxed);
    if (heap_held != NULL)
        hold(heap_held);
}
