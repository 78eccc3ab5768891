/*
 * lf_sanitize.h, TSan build: tells ThreadSanitizer what ck's assembly does.
 *
 * ck's operations are inline assembly, which TSan cannot see. So they are kept out of instrumented
 * code (noinline, no_sanitize), and each node handed over is annotated on its own: released before
 * the push that publishes it, acquired after the pop that takes it. Annotating the stack instead
 * would order a writer's later writes too, and hide a write after push.
 */
#ifndef HAK_LF_SANITIZE_H
#define HAK_LF_SANITIZE_H

#include <ck_cc.h>
#undef CK_CC_INLINE
#define CK_CC_INLINE __attribute__((noinline, no_sanitize("thread"), unused))

void __tsan_acquire(void *address);
void __tsan_release(void *address);

#define LF_RELEASE(node) __tsan_release(node)
#define LF_ACQUIRE(node) __tsan_acquire(node)
#define LF_RELEASE_CHAIN(first, last)                                                              \
    do {                                                                                           \
        for (ck_stack_entry_t *node_ = (first);; node_ = node_->next) {                            \
            __tsan_release(node_);                                                                 \
            if (node_ == (last))                                                                   \
                break;                                                                             \
        }                                                                                          \
    } while (0)
#define LF_ACQUIRE_ALL(first)                                                                      \
    do {                                                                                           \
        for (ck_stack_entry_t *node_ = (first); node_ != NULL; node_ = node_->next)                \
            __tsan_acquire(node_);                                                                 \
    } while (0)

/* liburcu's store is volatile, which TSan takes for a plain one. */
#define LF_RCU_ASSIGN(pointer, value) __atomic_store_n(&(pointer), value, __ATOMIC_RELEASE)

#endif
