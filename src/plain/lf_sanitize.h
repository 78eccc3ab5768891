/*
 * lf_sanitize.h, plain build: ck's assembly needs no explaining to anybody. The TSan build finds
 * tsan/shim/lf_sanitize.h in its place.
 */
#ifndef HAK_LF_SANITIZE_H
#define HAK_LF_SANITIZE_H

#define LF_RELEASE(node)              ((void)0)
#define LF_ACQUIRE(node)              ((void)0)
#define LF_RELEASE_CHAIN(first, last) ((void)0)
#define LF_ACQUIRE_ALL(first)         ((void)0)
#define LF_RCU_ASSIGN(pointer, value) _rcu_assign_pointer(pointer, value)

#endif
