/*
 * shared.c: see shared.h.
 */
#include "shared.h"
#include "counters.h"

#define UNLINKED_AT_ONCE 4u /* so that what is linked gets less, but no call takes long */

static_assert(SLAB_LINKS == 2, "there is one other link");

static struct {
    _Alignas(HAK_CACHE_LINE) lf_stack slabs[SLAB_LINKS];
} stacks[SIZE_CLASS_COUNT];

/* True if the descriptor is in a stack of the class by this link, now or already. */
static bool push_by(struct slab *s, unsigned class_no, unsigned k)
{
    uint8_t linked = atomic_load_explicit(&s->linked[k], memory_order_seq_cst);
    uint8_t as = (uint8_t)(class_no + 1);
    if (linked != 0)
        return linked == as;
    COUNT(cas);
    if (!atomic_compare_exchange_strong_explicit(&s->linked[k], &linked, as, memory_order_seq_cst,
                                                 memory_order_seq_cst))
        return linked == as;
    lf_stack_push(&stacks[class_no].slabs[k], &s->link[k]);
    return true;
}

/* By that link if it can be. */
static void push_first_by(struct slab *s, unsigned k)
{
    unsigned class_no = slab_class(s);
    if (!push_by(s, class_no, k))
        push_by(s, class_no, 1 - k);
}

void shared_push(struct slab *s)
{
    push_first_by(s, 0);
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

/* The next ones of a stack lose their links. Those that are SHARED still go on, by the other link
 * if they can, lest they are met again. */
static void unlink_some(unsigned class_no, unsigned k)
{
    struct slab *popped[UNLINKED_AT_ONCE];
    unsigned count = 0;
    while (count < UNLINKED_AT_ONCE && (popped[count] = pop_by(class_no, k)) != NULL)
        count++;
    while (count-- > 0)
        if (atomic_load_explicit(&popped[count]->owner, memory_order_seq_cst) == SLAB_SHARED)
            push_first_by(popped[count], 1 - k);
}

void shared_unlink_stale(struct slab *s)
{
    for (unsigned k = 0; k < SLAB_LINKS; k++) {
        unsigned linked = atomic_load_explicit(&s->linked[k], memory_order_relaxed);
        if (linked != 0 && linked != slab_class(s) + 1)
            unlink_some(linked - 1, k);
    }
}
