/*
 * rcu.c: polled grace periods over urcu-bp.
 *
 * SYNCHRONIZATION
 * - Readers. liburcu does not show its list of readers, so ours notes itself once, in a push-only
 *   list, before its first read section. The push is a locked instruction: a poller that does not
 *   see the note has unpublished before the reader's first look.
 * - As long as there has been no reader, what is retired is reclaimed at once: unpublish; barrier; no
 *   note. Whoever notes itself after that look finds what was unpublished gone.
 * - The poller holds `polling`, taken by exchange (acquire) and given back by store (release), and not
 *   while it reclaims. Whoever finds it taken goes away. A poller that is stopped parks the retired;
 *   nobody waits.
 * - A grace period: unpublish; membarrier; each noted reader seen at nesting zero once; membarrier;
 *   reclaim. The first membarrier orders the unpublishing before the look at the counters, against
 *   the reader's counter store before its loads; the second orders its last loads before ours. Where
 *   liburcu found no membarrier, its readers use full fences themselves.
 */
#include "rcu.h"
#include "meta.h"
#include "os.h"

#include <urcu/static/urcu-bp.h>

#define ARENA_MOST MIB(1) /* of some thousand readers */

struct reader {
    unsigned long *nesting; /* constant after publication; in memory of liburcu's arena */
    struct reader *next;    /* constant after publication */
    bool was_outside;       /* poller only: since the batch was taken */
};

static _Atomic(struct reader *) readers; /* atomic, push only */
static lf_stack arrivals;                /* push and pop_all: retired, not yet in a batch */
static lf_node *batch;                   /* poller only: waiting for its grace period */
static _Atomic(bool) polling;            /* atomic: see above */
static _Atomic(bool) closed;             /* atomic: see rcu_retire */
static _Atomic(int) registering;         /* atomic: threads that may hold liburcu's mutex for it */
static bool no_readers; /* constant but in the child of a fork: liburcu's mutex may be nobody's */
/* Owner only: liburcu was told of this thread's fork. */
static __thread bool urcu_forks __attribute__((tls_model("initial-exec")));
/* Owner only: this thread is the poller. */
static __thread bool am_polling __attribute__((tls_model("initial-exec")));

static_assert(offsetof(struct urcu_bp_reader, ctr) == 0, "a reader is known by its counter");

static bool is_closed(void)
{
    return atomic_load_explicit(&closed, memory_order_relaxed);
}

static bool is_noted(const unsigned long *nesting)
{
    struct reader *r = atomic_load_explicit(&readers, memory_order_acquire);
    while (r != NULL && r->nesting != nesting)
        r = r->next;
    return r != NULL;
}

/* True if this thread's reader is in the list, or need not be since nothing can be reclaimed. */
static bool note_reader(unsigned long *nesting)
{
    if (is_noted(nesting))
        return true;
    struct reader *r = meta_alloc(sizeof *r);
    if (r == NULL)
        return false;
    r->nesting = nesting;
    r->next = atomic_load_explicit(&readers, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&readers, &r->next, r, memory_order_seq_cst,
                                                  memory_order_relaxed))
        continue;
    lf_full_barrier_after_rmw();
    return true;
}

/* Where liburcu can't map its readers' arena, it aborts. */
static bool can_register(void)
{
    if (URCU_TLS(urcu_bp_reader) != NULL)
        return true;
    void *arena = os_map(ARENA_MOST);
    return arena != NULL && os_unmap(arena, ARENA_MOST);
}

/* No memory for a note: nothing is reclaimed from here on, and this reader is safe. */
static void close_for_reader(void)
{
    rcu_close();
    lf_full_barrier();
}

bool hak_rcu_read_lock(void)
{
    if (no_readers || !can_register())
        return false;
    atomic_fetch_add_explicit(&registering, 1, memory_order_seq_cst);
    urcu_bp_read_lock(); /* registers this thread */
    if (!note_reader((unsigned long *)(void *)URCU_TLS(urcu_bp_reader)))
        close_for_reader();
    atomic_fetch_sub_explicit(&registering, 1, memory_order_seq_cst);
    return true;
}

void hak_rcu_read_unlock(void)
{
    LF_RELEASE(URCU_TLS(urcu_bp_reader)); /* with is_outside: what TSan can't see of the counter */
    urcu_bp_read_unlock();
}

static bool barrier_all(void)
{
    if (!urcu_bp_has_sys_membarrier) {
        lf_full_barrier();
        return true;
    }
    return os_barrier_all();
}

static bool is_outside(struct reader *r)
{
    if ((__atomic_load_n(r->nesting, __ATOMIC_ACQUIRE) & URCU_BP_GP_CTR_NEST_MASK) != 0)
        return false;
    LF_ACQUIRE(r->nesting);
    return true;
}

/* Takes what has arrived. The readers are looked up after that, never before: one that noted itself
 * in between may have found what had not been unpublished yet. */
static bool batch_begin(void)
{
    if (lf_stack_is_empty(&arrivals))
        return false;
    batch = lf_stack_pop_all_upmc(&arrivals);
    lf_full_barrier_after_rmw();
    struct reader *r = atomic_load_explicit(&readers, memory_order_seq_cst);
    for (; r != NULL; r = r->next)
        r->was_outside = false;
    return batch != NULL;
}

static bool all_were_outside(struct reader *first)
{
    bool all = true;
    for (struct reader *r = first; r != NULL; r = r->next) {
        r->was_outside = r->was_outside || is_outside(r);
        all = all && r->was_outside;
    }
    return all;
}

/* What has had its grace period. */
static lf_node *batch_due(void)
{
    if (batch == NULL && !batch_begin())
        return NULL;
    if (is_closed()) /* asked after the barrier: for a reader without a note, too */
        return NULL;
    struct reader *first = atomic_load_explicit(&readers, memory_order_seq_cst);
    if (first != NULL && !barrier_all())
        return NULL;
    if (!all_were_outside(first))
        return NULL;
    if (first != NULL && !barrier_all())
        return NULL;
    lf_node *due = batch;
    batch = NULL;
    return due;
}

static void reclaim_all(lf_node *node)
{
    while (node != NULL) {
        struct retired *retired = LF_CONTAINER(node, struct retired, node);
        node = node->next;
        retired->reclaim(retired);
    }
}

/* Who is stopped, or leaves by longjmp, while it reclaims, which takes by far the longest, keeps
 * others from nothing. */
void rcu_poll(void)
{
    bool was_polling = am_polling;
    am_polling = true; /* first: a handler may fork */
    if (is_closed() || atomic_exchange_explicit(&polling, true, memory_order_acquire)) {
        am_polling = was_polling;
        return;
    }
    lf_node *due = batch_due();
    am_polling = false;
    atomic_store_explicit(&polling, false, memory_order_release);
    reclaim_all(due);
}

/* The caller has unpublished before. */
static bool has_no_reader(void)
{
    lf_full_barrier();
    return atomic_load_explicit(&readers, memory_order_seq_cst) == NULL && !is_closed();
}

void rcu_retire(struct retired *retired, void (*reclaim)(struct retired *))
{
    if (has_no_reader()) {
        reclaim(retired);
        return;
    }
    retired->reclaim = reclaim;
    lf_stack_push(&arrivals, &retired->node);
    rcu_poll();
}

void rcu_close(void)
{
    atomic_store_explicit(&closed, true, memory_order_relaxed);
}

/* liburcu is left alone as long as no thread of ours was its reader: a program that uses urcu-bp
 * itself tells it of forks, and twice would be a deadlock. */
void rcu_before_fork(void)
{
    urcu_forks = atomic_load_explicit(&readers, memory_order_relaxed) != NULL;
    if (urcu_forks)
        urcu_bp_before_fork();
}

void rcu_after_fork_parent(void)
{
    if (urcu_forks)
        urcu_bp_after_fork_parent();
}

/* Its poller may have vanished, and have seen readers outside of their sections that it had not
 * begun to ask. */
static void take_over_polling(void)
{
    struct reader *r = atomic_load_explicit(&readers, memory_order_relaxed);
    for (; r != NULL; r = r->next)
        r->was_outside = false;
    atomic_store_explicit(&polling, false, memory_order_relaxed);
}

/* Of a child that has none, and liburcu does not know. */
static void forget_readers(void)
{
    no_readers = true;
    atomic_store_explicit(&readers, NULL, memory_order_relaxed);
}

/* A thread that vanished as it registered may have had liburcu's mutex: there are no statistics in
 * the child, then. The same if it registered after this thread had begun to fork. */
void rcu_after_fork_child(void)
{
    if (urcu_forks)
        urcu_bp_after_fork_child();
    else if (atomic_load_explicit(&registering, memory_order_relaxed) != 0 ||
             atomic_load_explicit(&readers, memory_order_relaxed) != NULL)
        forget_readers();
    atomic_store_explicit(&registering, 0, memory_order_relaxed);
    if (!am_polling)
        take_over_polling();
}
