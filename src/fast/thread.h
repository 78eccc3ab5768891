/*
 * thread.h: hakmem learns that a thread ends.
 *
 * SYNCHRONIZATION: see thread.c.
 */
#ifndef HAK_THREAD_H
#define HAK_THREAD_H

/* Has the calling thread's heap retired when the thread ends; at once if that is arranged already.
 * Called outside of the heap, since pthread_setspecific may allocate. */
void thread_watch_exit(void);

#endif
