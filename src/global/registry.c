/*
 * registry.c: publication, and the walk.
 *
 * SYNCHRONIZATION: see registry.h. rcu_assign_pointer in registry_publish pairs with
 * rcu_dereference in registry_region, registry_region_of_block, registry_near_region and walk_leaf;
 * the CAS on a root entry with the acquiring load in registry_leaf_covering and
 * registry_walk_alone.
 */
#include "registry.h"
#include "os.h"
#include "rcu.h"

_Alignas(HAK_CACHE_LINE) struct registry_leaf *_Atomic registry_root[REGISTRY_LEAVES];

static struct registry_leaf *leaf_make(const void *p)
{
    struct registry_leaf *seen = registry_leaf_of(p);
    if (seen != NULL || !registry_covers(p))
        return seen;
    struct registry_leaf *leaf = os_map(sizeof *leaf);
    if (leaf == NULL)
        return NULL;
    if (atomic_compare_exchange_strong_explicit(&registry_root[(uintptr_t)p >> LEAF_SHIFT], &seen,
                                                leaf, memory_order_acq_rel, memory_order_acquire))
        return leaf;
    os_unmap(leaf, sizeof *leaf);
    return seen;
}

void registry_go_near(struct registry_near *near, const void *p)
{
    near->base = REGISTRY_FAR;
    struct registry_leaf *leaf = registry_leaf_of(p);
    if (leaf == NULL)
        return;
    atomic_signal_fence(memory_order_seq_cst);
    near->leaf = leaf;
    atomic_signal_fence(memory_order_seq_cst);
    near->base = (uintptr_t)p >> LEAF_SHIFT << LEAF_SHIFT;
}

struct region *registry_region(const void *p)
{
    struct registry_leaf *leaf = registry_leaf_of(p);
    return leaf == NULL ? NULL : hak_rcu_dereference(registry_slot_in(leaf, p));
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
    hak_rcu_assign(registry_slot_in(leaf, region->base), region);
    return true;
}

void registry_unpublish(const struct region *region)
{
    hak_rcu_assign(registry_slot_in(registry_leaf_covering(region->base), region->base), NULL);
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

void registry_walk_alone(void (*visit)(struct region *, void *), void *context)
{
    for (size_t i = 0; i < REGISTRY_LEAVES; i++) {
        struct registry_leaf *leaf = atomic_load_explicit(&registry_root[i], memory_order_acquire);
        if (leaf != NULL)
            walk_leaf(leaf, visit, context);
    }
}

void registry_walk(void (*visit)(struct region *, void *), void *context)
{
    if (!hak_rcu_read_lock())
        return;
    registry_walk_alone(visit, context);
    hak_rcu_read_unlock();
}
