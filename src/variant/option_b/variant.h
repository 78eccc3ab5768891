/*
 * variant.h, Option B: hakmem's ancestor. The same heaps and fast paths, and one coarse lock around
 * every slow path: misses, remote frees, registry changes, thread exit.
 *
 * Not for use: what it is for is to be compared with. It is not async-signal-safe.
 *
 * SYNCHRONIZATION: coarse_lock. What it protects is what the default keeps lock-free; fork takes
 * it, so that the child finds it free.
 */
#ifndef HAK_VARIANT_H
#define HAK_VARIANT_H

#include "../../global/base.h"

#include <pthread.h>

#define VARIANT_HEAP_PER_THREAD true
#define VARIANT_HEAP_STORAGE    __thread
#define VARIANT_HEAP_MODEL      __attribute__((tls_model("initial-exec")))

extern pthread_mutex_t coarse_lock;

HAK_INLINE void variant_enter(void)
{
}

HAK_INLINE void variant_leave(void)
{
}

HAK_INLINE void variant_slow_enter(void)
{
    pthread_mutex_lock(&coarse_lock);
}

HAK_INLINE void variant_slow_leave(void)
{
    pthread_mutex_unlock(&coarse_lock);
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
