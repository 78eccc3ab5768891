/*
 * rcu.h: liburcu's urcu-bp for those who look without owning, and grace periods that nobody waits
 * for.
 *
 * synchronize_rcu() blocks signals, waits for a stuck reader and makes fork wait; call_rcu()
 * allocates and starts a thread. Neither may happen below malloc, so grace periods are polled here:
 * whoever retires something leaves it in a list, and a later slow path that finds every reader to
 * have been outside of its read section once since then takes the list away. A stopped reader
 * delays that, and nothing else. As long as nobody has been a reader, there is nothing to wait for,
 * and no list.
 *
 * SYNCHRONIZATION: retire and poll are lock-free, from any thread; the poll is done by one thread
 * at a time, and the others pass by. Read sections belong to entry points that only look
 * (statistics, walks): malloc and free enter none, since registering a reader with urcu-bp takes
 * its mutex.
 */
#ifndef HAK_RCU_H
#define HAK_RCU_H

#include "base.h"
#include "lf_stack.h"

#include <urcu/static/pointer.h>
#include <urcu/urcu-bp.h>

/* To be embedded in what is retired. */
struct retired {
    lf_node node;
    void (*reclaim)(struct retired *);
};

struct region;

HAK_INLINE void hak_rcu_assign(struct region **slot, struct region *region)
{
    LF_RCU_ASSIGN(*slot, region);
}

HAK_INLINE struct region *hak_rcu_dereference(struct region **slot)
{
    return _rcu_dereference(*slot);
}

/* Nests. Not for malloc or free. False: memory is out, and this thread has never been a reader. */
bool hak_rcu_read_lock(void);
void hak_rcu_read_unlock(void);

/* What is retired must be unpublished already. reclaim is called once, after a grace period, by any
 * thread that polls; it may be called before this returns. */
void rcu_retire(struct retired *retired, void (*reclaim)(struct retired *));
void rcu_poll(void);

/* Around fork, through pthread_atfork. */
void rcu_before_fork(void);
void rcu_after_fork_parent(void);
void rcu_after_fork_child(void);
/* The process is about to unload liburcu: readers can't be looked at any more, so nothing is
 * reclaimed from here on. */
void rcu_close(void);

#endif
