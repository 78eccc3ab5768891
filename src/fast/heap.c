/*
 * heap.c: heaps come, go, and change hands. What their bins hold is bins.c's.
 *
 * SYNCHRONIZATION
 * - `parked` and `spare` are pushed and popped singly (pop_mpmc); heaps are type-stable.
 * - `all` is push-only: the CAS that publishes a heap (release) pairs with the acquiring load of
 *   heap_first.
 * - `holder`: 0 while in a stack. In the child of a fork, a heap whose holder is of an older generation
 *   belongs to a thread that vanished. If that thread was not in a slow path, the heap is whole (the fast
 *   paths leave it so at every instruction) and is adopted by CAS, straight into a slow path; else it has to
 *   be mended first (mend.c). So a heap is busy from before it is held until after it is given back.
 * - A heap becomes busy by a store, with a look at who has seized it, and idle again by a store (release), since
 *   others seize idle ones (heap.h). Whoever ends a seizure decides by the value that it finds.
 */
#include "heap.h"
#include "bins.h"
#include "counters.h"
#include "mend.h"
#include "processor.h"
#include "thread.h"
#include "../global/meta.h"
#include "../global/os.h"
#include "../global/segment.h"

#define PARKED_BYTES   MIB(16) /* free blocks in all parked heaps together */
#define HEAPS_NUMBERED 4096u   /* that are found by their owners */

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

uint32_t heap_held_now(void)
{
    return HEAP_HELD(atomic_load_explicit(&generation, memory_order_relaxed));
}

/* Nobody else has it: it comes from a stack, is new, or was seized by this thread. Busy first: once
 * it is held, others may seize it. */
static void set_busy(struct heap *h)
{
    atomic_store_explicit(&h->busy, true, memory_order_relaxed);
    heap_set_holder(h, heap_held_now());
}

static void set_idle(struct heap *h)
{
    heap_note_kept(h);
    heap_end(h);
}

static bool try_state(struct heap *h, uint32_t from, uint32_t to)
{
    uint32_t held = heap_held_now();
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
    uint32_t holder = heap_holder(h);
    bool may_be = holder != 0 && holder != now && (holder & HEAP_STATES) == 0 && !heap_is_busy(h) &&
                  h != heap_held;
    if (!may_be ||
        !atomic_compare_exchange_strong_explicit(&h->holder, &holder, now | HEAP_SEIZED,
                                                 memory_order_acquire, memory_order_relaxed))
        return false;
    set_busy(h);
    return true;
}

static struct heap *adopt_vanished(void)
{
    uint32_t now = heap_held_now();
    if (now == HEAP_HELD(0))
        return NULL;
    struct heap *h = heap_first();
    while (h != NULL && !try_adopt(h, now))
        h = h->all_next;
    if (h != NULL) {
        bins_recount(h);
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
    bins_begin(h);
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
    heap_set_holder(h, 0);
    heap_end(h);
    lf_stack_push(stack, &h->link);
}

size_t heap_cached_bytes(void)
{
    struct heap *entered = heap_enter();
    size_t own = heap_is_sentinel(entered) ? 0 : bins_bytes(entered);
    heap_leave(entered);
    return own + atomic_load_explicit(&parked_bytes, memory_order_relaxed);
}

static void park(struct heap *h)
{
    h->held_bytes = bins_bytes(h);
    go_out_of_use(h);
    atomic_fetch_add_explicit(&parked_bytes, h->held_bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&parked_count, 1, memory_order_relaxed);
    put(&parked, h);
}

void heap_dissolve(struct heap *h)
{
    bins_empty(h);
    outbuf_flush(&h->out, &h->owned);
    runs_drop(&h->runs);
    owned_disown_all(&h->owned);
}

/* By a thread that is there: a handler may have forked since the heap was taken. */
static bool is_seized(uint32_t holder)
{
    return (holder & HEAP_SEIZED) != 0 && (holder & ~HEAP_STATES) == heap_held_now();
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
        uint32_t holder = heap_holder(h);
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
    if (parked_now + bins_bytes(h) <= PARKED_BYTES) {
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
    if (HAK_UNLIKELY(heap_is_busy(h)))
        return false;
    if (HAK_LIKELY(heap_begin(h) == heap_held_now()))
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

/* False: who has seized it has it from now on. It is this thread's until it is busy, or left: a
 * handler may fork, and the child adopt what is nobody's. */
static bool take_or_leave(struct heap *h)
{
    while (!heap_is_busy(h)) {
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
    if (h == NULL || heap_is_busy(h))
        return;
    variant_slow_enter();
    bool taken = take_or_leave(h);
    heap_held = NULL;
    if (taken && entered == heap_sentinel(HEAP_INSIDE))
        bins_recount(h);
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

struct heap *heap_first(void)
{
    return atomic_load_explicit(&all, memory_order_acquire);
}

bool heap_is_idle(struct heap *h, uint16_t now)
{
    uint16_t since = (uint16_t)(now - heap_now(h)); /* just below 0: it came to one meanwhile */
    return heap_holder(h) == heap_held_now() && !heap_is_busy(h) && heap_is_long(since);
}

/* In the child of a fork, one of an older generation is for whoever adopts it. */
static bool is_for_good(uint32_t holder)
{
    return (holder & HEAP_LEFT) != 0 && (holder & ~HEAP_STATES) == heap_held_now();
}

static void let_go(struct heap *h)
{
    uint32_t holder = atomic_load_explicit(&h->holder, memory_order_acquire);
    while (!is_for_good(holder))
        if (atomic_compare_exchange_weak_explicit(&h->holder, &holder, holder & ~HEAP_STATES,
                                                  memory_order_acq_rel, memory_order_acquire))
            return;
    set_busy(h);
    bins_recount(h); /* its thread may have left it between two steps of a fast path */
    shelve(h);
}

/* Its thread is in a slow path if it came to that before the barrier, and finds what is said here
 * if it comes after it. */
bool heap_seize(struct heap *h)
{
    if (heap_is_busy(h) || !try_state(h, 0, HEAP_SEIZED))
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

/* A handler that forks inside of malloc or free: what is in flight may be what it interrupted. */
static bool is_interrupted(void)
{
    return heap_current == heap_sentinel(HEAP_INSIDE) ||
           (heap_held != NULL && heap_is_busy(heap_held));
}

void heap_after_fork_child(void)
{
    atomic_fetch_add_explicit(&generation, 1, memory_order_relaxed);
    if (heap_held != NULL && heap_holder(heap_held) != 0)
        heap_set_holder(heap_held, heap_held_now() | (heap_holder(heap_held) & HEAP_STATES));
    segment_set_heaps(heap_held != NULL);
    outbuf_only_user(heap_held != NULL ? &heap_held->out : NULL);
    runs_only_user(heap_held != NULL ? &heap_held->runs : NULL);
    if (!is_interrupted())
        mend_lost(heap_held);
}
