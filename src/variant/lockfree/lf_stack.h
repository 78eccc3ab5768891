/*
 * lf_stack.h: the one door to Concurrency Kit. Lock-free stacks, over ck_stack.
 *
 * SYNCHRONIZATION. Which operation may run beside which, on one stack:
 *
 *                    push   push_chain   pop_mpmc   pop_all_upmc
 *   push             yes    yes          yes        yes
 *   pop_mpmc         yes    yes          yes        NO
 *   pop_all_upmc     yes    yes          NO         yes
 *
 * pop_mpmc compares a generation with the head (a double-word CAS), so a head that went and came
 * back is noticed; pop_all leaves the generation alone, hence the two NOs. pop_mpmc reads the
 * `next` of a node that somebody else may have popped already: its nodes must be type-stable, and
 * so it is for descriptors, never for blocks.
 *
 * Every push is a release of its nodes and every pop an acquire of what it takes. On x86 ck's
 * locked instructions are full barriers, and the fences cost nothing.
 */
#ifndef HAK_LF_STACK_H
#define HAK_LF_STACK_H

#include "../lf_types.h"
#include "counters.h"
#include "lf_sanitize.h"

HAK_INLINE void lf_stack_push(lf_stack *s, lf_node *node)
{
    COUNT(cas);
    LF_RELEASE(node);
    ck_pr_fence_release();
    ck_stack_push_mpmc(&s->stack, node);
}

/* Pushes nodes that are linked from first to last already, with one CAS. */
HAK_INLINE void lf_stack_push_chain(lf_stack *s, lf_node *first, lf_node *last)
{
    lf_node *head = ck_pr_load_ptr(&s->stack.head);
    do {
        COUNT(cas);
        last->next = head;
        LF_RELEASE_CHAIN(first, last);
        ck_pr_fence_release();
    } while (!ck_pr_cas_ptr_value(&s->stack.head, head, first, &head));
}

HAK_INLINE lf_node *lf_stack_pop_mpmc(lf_stack *s)
{
    COUNT(cas);
    lf_node *node = ck_stack_pop_mpmc(&s->stack);
    ck_pr_fence_acquire();
    if (node != NULL)
        LF_ACQUIRE(node);
    return node;
}

HAK_INLINE lf_node *lf_stack_pop_all_upmc(lf_stack *s)
{
    COUNT(cas);
    lf_node *first = ck_stack_batch_pop_upmc(&s->stack);
    ck_pr_fence_acquire();
    LF_ACQUIRE_ALL(first);
    return first;
}

/* A look that promises nothing by the time the caller acts on it. */
HAK_INLINE bool lf_stack_is_empty(lf_stack *s)
{
    return ck_pr_load_ptr(&s->stack.head) == NULL;
}

/* Between a locked operation and a later load, where the order of the two decides (a second
 * look). */
HAK_INLINE void lf_full_barrier_after_rmw(void)
{
    ck_pr_fence_atomic_load();
}

HAK_INLINE void lf_full_barrier(void)
{
    ck_pr_fence_memory();
}

#endif
