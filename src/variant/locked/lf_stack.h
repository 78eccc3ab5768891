/*
 * lf_stack.h, Options A and B: the same stacks without an atomic operation, under the coarse lock.
 *
 * SYNCHRONIZATION: every caller holds coarse_lock.
 */
#ifndef HAK_LF_STACK_H
#define HAK_LF_STACK_H

#include "../lf_types.h"

HAK_INLINE void lf_stack_push(lf_stack *s, lf_node *node)
{
    ck_stack_push_spnc(&s->stack, node);
}

HAK_INLINE void lf_stack_push_chain(lf_stack *s, lf_node *first, lf_node *last)
{
    last->next = s->stack.head;
    s->stack.head = first;
}

HAK_INLINE lf_node *lf_stack_pop_mpmc(lf_stack *s)
{
    return ck_stack_pop_npsc(&s->stack);
}

HAK_INLINE lf_node *lf_stack_pop_all_upmc(lf_stack *s)
{
    return ck_stack_batch_pop_npsc(&s->stack);
}

HAK_INLINE bool lf_stack_is_empty(lf_stack *s)
{
    return s->stack.head == NULL;
}

HAK_INLINE void lf_full_barrier_after_rmw(void)
{
}

HAK_INLINE void lf_full_barrier(void)
{
    atomic_thread_fence(memory_order_seq_cst); /* liburcu's readers are outside of the lock */
}

#endif
