/*
 * fork.c: around fork.
 *
 * hakmem takes no lock, so there is none to be held in the child, and nothing to wait for:
 * lock-free structures are whole at every instruction. (fork copies what one moment of all threads
 * looked like: a thread that writes after its page was copied waits for the copying to end.) What
 * has to be said to the child is that the other threads are gone (mend.h), with what they had in
 * their hands, and to liburcu that its readers are.
 *
 * SYNCHRONIZATION: the handlers run in the thread that forks. urcu's take its mutex, which only
 * threads that register as readers, for statistics, ever hold.
 */
#include "heap.h"

#include <pthread.h>

static void before(void)
{
    rcu_before_fork();
    variant_before_fork();
}

static void in_parent(void)
{
    variant_after_fork();
    rcu_after_fork_parent();
}

static void in_child(void)
{
    variant_after_fork();
    rcu_after_fork_child();
    heap_after_fork_child();
}

__attribute__((constructor)) static void watch_forks(void)
{
    pthread_atfork(before, in_parent, in_child);
}

__attribute__((destructor)) static void close_rcu(void)
{
    rcu_close();
}
