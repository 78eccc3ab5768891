/*
 * variant.h, the default: lock-free, a heap a thread. The seams of the other variants are empty
 * here.
 *
 * SYNCHRONIZATION: none to add.
 */
#ifndef HAK_VARIANT_H
#define HAK_VARIANT_H

#include "../../global/base.h"

#define VARIANT_HEAP_PER_THREAD true
#define VARIANT_HEAP_STORAGE    __thread
#define VARIANT_HEAP_MODEL      __attribute__((tls_model("initial-exec")))

/* Around each entry point. */
HAK_INLINE void variant_enter(void)
{
}

HAK_INLINE void variant_leave(void)
{
}

/* Around each slow path. */
HAK_INLINE void variant_slow_enter(void)
{
}

HAK_INLINE void variant_slow_leave(void)
{
}

/* Around fork; in the parent and in the child afterwards. */
HAK_INLINE void variant_before_fork(void)
{
}

HAK_INLINE void variant_after_fork(void)
{
}

#endif
