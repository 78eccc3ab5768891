/*
 * shared.c: see shared.h.
 */
#include "shared.h"
#include "counters.h"

static struct {
    _Alignas(HAK_CACHE_LINE) lf_stack slabs;
} stacks[SIZE_CLASS_COUNT];

void shared_push(struct slab *s)
{
    COUNT(cas);
    if (atomic_exchange_explicit(&s->linked, true, memory_order_seq_cst))
        return;
    lf_stack_push(&stacks[slab_class(s)].slabs, &s->link);
}

struct slab *shared_pop(unsigned class_no)
{
    lf_stack *slabs = &stacks[class_no].slabs;
    if (lf_stack_is_empty(slabs))
        return NULL;
    lf_node *node = lf_stack_pop_mpmc(slabs);
    if (node == NULL)
        return NULL;
    struct slab *s = LF_CONTAINER(node, struct slab, link);
    atomic_store_explicit(&s->linked, false, memory_order_seq_cst);
    return s;
}
