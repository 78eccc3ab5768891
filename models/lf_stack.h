/*
 * lf_stack.h: the model of src/variant/lockfree/lf_stack.h and of the functions of ck_stack.h under it.
 *
 * ck's RMWs are relaxed here, with the fences that ck and lf_stack.h name, which is what they are on
 * aarch64. ck_pr_fence_store, which has no equal in C11, is taken for a release fence. Head and generation
 * are one atomic, since the double-word CAS writes both at once: who has seen one of them as new sees the
 * other so. (As two relaxed atomics, pop_mpmc would be wrong.) That they are loaded in order, by
 * ck_pr_fence_load, is therefore tried by loading them in the other.
 *
 * A node may be popped from by pop_mpmc if its `next` is racy, and by pop_all only if it is plain.
 */
#ifndef MODELS_LF_STACK_H
#define MODELS_LF_STACK_H

#include "model.h"

template <typename node> struct head_and_generation {
    node *head;
    unsigned generation;

    bool operator==(const head_and_generation &other) const
    {
        return head == other.head && generation == other.generation;
    }
    friend std::ostream &operator<<(std::ostream &out, const head_and_generation &v)
    {
        return out << '{' << (void *)v.head << ", " << v.generation << '}';
    }
};

template <typename node> struct lf_stack {
    using words = head_and_generation<node>;
    atomic<words> both;

    lf_stack() : both(words{nullptr, 0})
    {
    }
};

/* Of the newest value, as an RMW reads. */
template <typename node>
bool cas_words(lf_stack<node> *s, head_and_generation<node> compare, head_and_generation<node> set)
{
    return atomic_compare_exchange_strong_explicit(&s->both, &compare, set, memory_order_relaxed,
                                                   memory_order_relaxed);
}

/* ck_pr_load_ptr(&s->head) */
template <typename node> node *load_head(lf_stack<node> *s)
{
    return atomic_load_explicit(&s->both, memory_order_relaxed).head;
}

/* ck_pr_load_ptr(&s->generation) */
template <typename node> unsigned load_generation(lf_stack<node> *s)
{
    return atomic_load_explicit(&s->both, memory_order_relaxed).generation;
}

/* ck_pr_cas_ptr_value(&s->head, expected, set, seen) */
template <typename node>
bool cas_head_value(lf_stack<node> *s, node *expected, node *set, node **seen)
{
    one_step step;
    head_and_generation<node> now = s->both.debug_value();
    *seen = now.head;
    return cas_words(s, {expected, now.generation}, {set, now.generation});
}

/* ck_pr_cas_ptr_2_value(s, compare, set, seen) */
template <typename node>
bool cas_2_value(lf_stack<node> *s, head_and_generation<node> compare,
                 head_and_generation<node> set, head_and_generation<node> *seen)
{
    one_step step;
    *seen = s->both.debug_value();
    return cas_words(s, compare, set);
}

/* lf_stack.h: lf_stack_push; ck_stack_push_upmc */
template <typename node> void lf_stack_push(lf_stack<node> *s, node *entry)
{
    fence(PUSH_FENCES, memory_order_release); /* ck_pr_fence_release */
    node *stack = load_head(s);
    do {
        entry->next = stack;
        fence(PUSH_FENCES, memory_order_release); /* ck_pr_fence_store */
    } while (!cas_head_value(s, stack, entry, &stack));
}

/* lf_stack.h: lf_stack_push_chain */
template <typename node> void lf_stack_push_chain(lf_stack<node> *s, node *first, node *last)
{
    node *head = load_head(s);
    do {
        last->next = head;
        fence(PUSH_CHAIN_FENCE, memory_order_release); /* ck_pr_fence_release */
    } while (!cas_head_value(s, head, first, &head));
}

/* ck_stack_pop_mpmc: the first look. The mutant is what the processor may do without the fence. */
template <typename node> head_and_generation<node> first_look(lf_stack<node> *s)
{
    head_and_generation<node> original = {};
    if (!does(POP_GENERATION_FIRST))
        original.head = load_head(s);
    original.generation = load_generation(s); /* then ck_pr_fence_load */
    if (does(POP_GENERATION_FIRST))
        original.head = load_head(s);
    return original;
}

/* lf_stack.h: lf_stack_pop_mpmc; ck_stack_pop_mpmc */
template <typename node> node *lf_stack_pop_mpmc(lf_stack<node> *s)
{
    head_and_generation<node> original = first_look(s), update, compare;
    do {
        if (original.head == nullptr)
            return nullptr;
        fence(POP_FENCE_NEXT, memory_order_acquire); /* ck_pr_fence_load */
        update.generation = original.generation + does(POP_GENERATION);
        update.head = original.head->next;
        compare = original;
    } while (!cas_2_value(s, compare, update, &original));
    fence(POP_FENCE_ACQUIRE, memory_order_acquire); /* ck_pr_fence_acquire */
    return original.head;
}

/* lf_stack.h: lf_stack_pop_all_upmc; ck_stack_batch_pop_upmc */
template <typename node> node *lf_stack_pop_all_upmc(lf_stack<node> *s)
{
    node *first;
    {
        one_step step; /* ck_pr_fas_ptr(&s->head, NULL) */
        head_and_generation<node> now = s->both.debug_value();
        first = now.head;
        cas_words(s, now, {nullptr, now.generation});
    }
    fence(POP_ALL_FENCE, memory_order_acquire); /* ck_pr_fence_load, ck_pr_fence_acquire */
    return first;
}

/* lf_stack.h: lf_stack_is_empty */
template <typename node> bool lf_stack_is_empty(lf_stack<node> *s)
{
    return load_head(s) == nullptr;
}

/* lf_stack.h: lf_full_barrier_after_rmw */
inline void lf_full_barrier_after_rmw(enum site site)
{
    fence(site, memory_order_seq_cst);
}

/* ---- descriptors, which are popped singly ---- */

struct lf_node {
    racy<lf_node *> next;

    lf_node()
    {
        next = nullptr;
    }
};

#endif
