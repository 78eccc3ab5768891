/*
 * registry.c: publication, and the walk.
 *
 * SYNCHRONIZATION: see registry.h. rcu_assign_pointer in registry_publish pairs with
 * rcu_dereference in registry_region, registry_region_of_block and registry_walk; the CAS on a root
 * slot with the acquiring load in registry_word_at, leaf_at and registry_region_of_block.
 */
#include "registry.h"
#include "os.h"
#include "rcu.h"

struct registry_no_leaf registry_no_leaf;

/* NULL: there is none. */
static struct registry_leaf *leaf_at(size_t i)
{
    uintptr_t words = atomic_load_explicit(&front.root[i], memory_order_acquire) + REGISTRY_BIAS(i);
    return words == (uintptr_t)&registry_no_leaf ? NULL : (struct registry_leaf *)words;
}

static struct registry_leaf *leaf_of(const void *p)
{
    return leaf_at((uintptr_t)p >> LEAF_SHIFT);
}

static struct region **slot_in(struct registry_leaf *leaf, const void *p)
{
    return &leaf->region[((uintptr_t)p >> SEGMENT_SHIFT) & (LEAF_REGIONS - 1)];
}

static struct registry_leaf *leaf_make(const void *p)
{
    size_t i = (uintptr_t)p >> LEAF_SHIFT;
    struct registry_leaf *leaf = leaf_at(i);
    if (leaf != NULL)
        return leaf;
    leaf = os_map(sizeof *leaf);
    if (leaf == NULL)
        return NULL;
    /* What is written beside it would be in a huge page with a part of it. */
    os_avoid_huge_pages(&registry_no_leaf, sizeof registry_no_leaf);
    uintptr_t seen = REGISTRY_NOTHING(i);
    if (atomic_compare_exchange_strong_explicit(&front.root[i], &seen,
                                                (uintptr_t)leaf - REGISTRY_BIAS(i),
                                                memory_order_acq_rel, memory_order_acquire))
        return leaf;
    os_unmap(leaf, sizeof *leaf);
    return leaf_at(i);
}

void registry_go_near(struct registry_near *near, const void *p)
{
    size_t i = (uintptr_t)p >> LEAF_SHIFT;
    near->base = REGISTRY_FAR;
    struct registry_leaf *leaf = leaf_at(i);
    if (leaf == NULL)
        return;
    atomic_signal_fence(memory_order_seq_cst);
    near->leaf = leaf;
    atomic_signal_fence(memory_order_seq_cst);
    near->base = (uintptr_t)i << LEAF_SHIFT;
}

struct region *registry_region(const void *p)
{
    return leaf_of(p) == NULL ? NULL : registry_region_of_block(p);
}

bool registry_prepare(const void *p)
{
    return leaf_make(p) != NULL;
}

bool registry_publish(struct region *region)
{
    struct registry_leaf *leaf = leaf_make(region->base);
    if (leaf == NULL)
        return false;
    hak_rcu_assign(slot_in(leaf, region->base), region);
    return true;
}

void registry_unpublish(const struct region *region)
{
    struct registry_leaf *leaf = leaf_of(region->base);
    hak_rcu_assign(slot_in(leaf, region->base), NULL);
}

static void walk_leaf(struct registry_leaf *leaf, void (*visit)(struct region *, void *),
                      void *context)
{
    for (size_t i = 0; i < LEAF_REGIONS; i++) {
        struct region *region = hak_rcu_dereference(&leaf->region[i]);
        if (region != NULL)
            visit(region, context);
    }
}

void registry_walk(void (*visit)(struct region *, void *), void *context)
{
    if (!hak_rcu_read_lock())
        return;
    for (size_t i = 0; i < REGISTRY_LEAVES; i++) {
        struct registry_leaf *leaf = leaf_at(i);
        if (leaf != NULL)
            walk_leaf(leaf, visit, context);
    }
    hak_rcu_read_unlock();
}
