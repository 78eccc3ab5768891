/*
 * shared.c: see shared.h.
 */
#include "shared.h"
#include "counters.h"

static struct {
    _Alignas(HAK_CACHE_LINE) lf_stack slabs[SLAB_LINKS];
} stacks[SIZE_CLASS_COUNT];

/* True if the descriptor is in a stack of the class by this link, now or already. */
static bool push_by(struct slab *s, unsigned class_no, unsigned k)
{
    uint8_t linked = 0, as = (uint8_t)(class_no + 1);
    COUNT(cas);
    if (!atomic_compare_exchange_strong_explicit(&s->linked[k], &linked, as, memory_order_seq_cst,
                                                 memory_order_seq_cst))
        return linked == as;
    lf_stack_push(&stacks[class_no].slabs[k], &s->link[k]);
    return true;
}

void shared_push(struct slab *s)
{
    unsigned class_no = slab_class(s);
    for (unsigned k = 0; k < SLAB_LINKS; k++)
        if (push_by(s, class_no, k))
            return;
}

static struct slab *pop_by(unsigned class_no, unsigned k)
{
    lf_stack *slabs = &stacks[class_no].slabs[k];
    if (lf_stack_is_empty(slabs))
        return NULL;
    lf_node *node = lf_stack_pop_mpmc(slabs);
    if (node == NULL)
        return NULL;
    struct slab *s = LF_CONTAINER(node - k, struct slab, link);
    atomic_store_explicit(&s->linked[k], 0, memory_order_seq_cst);
    return s;
}

struct slab *shared_pop(unsigned class_no)
{
    struct slab *s = pop_by(class_no, 0);
    return s != NULL ? s : pop_by(class_no, 1);
}
