/*
 * registry.c: publication, and the walk.
 *
 * SYNCHRONIZATION: see registry.h. rcu_assign_pointer in registry_publish pairs with rcu_dereference
 * in registry_region and registry_walk; the CAS on a root slot with the consuming load in
 * registry_leaf_of.
 */
#include "registry.h"
#include "os.h"
#include "rcu.h"

struct registry_leaf *registry_root[REGISTRY_LEAVES];

static struct region **slot_in(struct registry_leaf *leaf, const void *p)
{
    return &leaf->region[((uintptr_t)p >> SEGMENT_SHIFT) & (LEAF_REGIONS - 1)];
}

static struct registry_leaf *leaf_make(const void *p)
{
    struct registry_leaf *leaf = registry_leaf_of(p);
    if (leaf != NULL)
        return leaf;
    leaf = os_map(sizeof *leaf);
    if (leaf == NULL)
        return NULL;
    struct registry_leaf *seen = NULL;
    if (__atomic_compare_exchange_n(&registry_root[(uintptr_t)p >> LEAF_SHIFT], &seen, leaf, false,
                                    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return leaf;
    os_unmap(leaf, sizeof *leaf);
    return seen;
}

struct region *registry_region(const void *p)
{
    struct registry_leaf *leaf = registry_leaf_of(p);
    return leaf == NULL ? NULL : rcu_dereference(*slot_in(leaf, p));
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
    struct registry_leaf *leaf = registry_leaf_of(region->base);
    hak_rcu_assign(slot_in(leaf, region->base), NULL);
}

static void walk_leaf(struct registry_leaf *leaf, void (*visit)(struct region *, void *),
                      void *context)
{
    for (size_t i = 0; i < LEAF_REGIONS; i++) {
        struct region *region = rcu_dereference(leaf->region[i]);
        if (region != NULL)
            visit(region, context);
    }
}

void registry_walk(void (*visit)(struct region *, void *), void *context)
{
    hak_rcu_read_lock();
    for (size_t i = 0; i < REGISTRY_LEAVES; i++) {
        struct registry_leaf *leaf = __atomic_load_n(&registry_root[i], __ATOMIC_CONSUME);
        if (leaf != NULL)
            walk_leaf(leaf, visit, context);
    }
    hak_rcu_read_unlock();
}
