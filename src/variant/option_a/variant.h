/*
 * variant.h, Option A: one heap for all threads, and one coarse lock around every entry point.
 *
 * Not for use: what it is for is to be compared with. It is not async-signal-safe.
 *
 * SYNCHRONIZATION: coarse_lock, from heap_enter to heap_leave; fork takes it, so that the child
 * finds it free.
 */
#ifndef HAK_VARIANT_H
#define HAK_VARIANT_H

#include "../../global/base.h"

#include <pthread.h>

#define VARIANT_HEAP_PER_THREAD false
#define VARIANT_HEAP_STORAGE
#define VARIANT_HEAP_MODEL

extern pthread_mutex_t coarse_lock;

HAK_INLINE void variant_enter(void)
{
    pthread_mutex_lock(&coarse_lock);
}

HAK_INLINE void variant_leave(void)
{
    pthread_mutex_unlock(&coarse_lock);
}

HAK_INLINE void variant_slow_enter(void)
{
}

HAK_INLINE void variant_slow_leave(void)
{
}

HAK_INLINE void variant_before_fork(void)
{
    pthread_mutex_lock(&coarse_lock);
}

HAK_INLINE void variant_after_fork(void)
{
    pthread_mutex_unlock(&coarse_lock);
}

#endif
