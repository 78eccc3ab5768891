/*
 * thread.h: hakmem learns that a thread ends.
 *
 * SYNCHRONIZATION: see thread.c.
 */
#ifndef HAK_THREAD_H
#define HAK_THREAD_H

#include "../global/base.h"

extern __thread bool thread_is_watched __attribute__((tls_model("initial-exec")));

void thread_begin_to_watch(void);

/* Has the calling thread's heap retired when the thread ends. Called outside of the heap, since
 * pthread_setspecific may allocate. */
HAK_INLINE void thread_watch_exit(void)
{
    if (HAK_UNLIKELY(!thread_is_watched))
        thread_begin_to_watch();
}

#endif
