/*
 * run_in_thread.h: runs a body in a thread of its own, to its end.
 */
#ifndef HAK_RUN_IN_THREAD_H
#define HAK_RUN_IN_THREAD_H

#include <pthread.h>

/* What it returns. */
static inline void *run_in_thread(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    void *result;
    assert_int_equal(pthread_create(&thread, NULL, body, argument), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    return result;
}

#endif
