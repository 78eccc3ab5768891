/*
 * lf_stack.cpp: a stack of descriptors that are pushed and popped singly (src/variant/lockfree/lf_stack.h,
 * ck_stack.h).
 *
 * Invariants: a node is in the stack or with one thread; what its holder wrote in it is seen by the next.
 */
#include "lf_stack.h"

#define NODES 3

struct descriptor {
    lf_node link;
    plain<int> holder; /* 0: in the stack */
};

struct stack_base {
    lf_stack<lf_node> stack;
    descriptor node[NODES];
    descriptor *held[3];

    void start()
    {
        for (descriptor *&h : held)
            h = nullptr;
        for (descriptor &d : node) {
            d.holder = 0;
            lf_stack_push(&stack, &d.link);
        }
    }

    descriptor *pop(int thread)
    {
        lf_node *n = lf_stack_pop_mpmc(&stack);
        for (descriptor &d : node)
            if (&d.link == n) {
                MUST(d.holder == 0);
                d.holder = thread + 1;
                return &d;
            }
        return nullptr;
    }

    void push(descriptor *d, int thread)
    {
        MUST(d->holder == thread + 1);
        d->holder = 0;
        lf_stack_push(&stack, &d->link);
    }

    /* Each node once: in the stack, or held. */
    void check()
    {
        unsigned times[NODES] = {};
        for (descriptor *h : held)
            if (h != nullptr)
                times[h - node]++;
        int left = NODES + 1;
        for (lf_node *n = stack.both.debug_value().head; n != nullptr && left-- > 0; n = n->next)
            for (descriptor &d : node)
                times[&d - node] += &d.link == n;
        for (unsigned t : times)
            MUST(t == 1);
    }
};

/* The head goes and comes back: A popped, B popped, A pushed, while a third party is in between. */
struct come_back : suite<come_back, stack_base, 2> {
    void thread(unsigned t)
    {
        held[t] = pop((int)t);
        if (t == 0)
            return;
        descriptor *second = pop(1);
        if (held[1] == nullptr)
            return;
        push(held[1], 1);
        held[1] = second;
    }
};

/* Everybody pops and pushes. */
struct three : suite<three, stack_base, 3> {
    void thread(unsigned t)
    {
        descriptor *d = pop((int)t);
        if (d == nullptr)
            return;
        if (t != 2)
            held[t] = pop((int)t);
        push(d, (int)t);
    }
};

int main(int argc, char **argv)
{
    model m = {"lf_stack",
               {{"come_back", rl::simulate<come_back>, full(), full()},
                {"three", rl::simulate<three>, bound(2), bound(4)},
                {"three_at_random", rl::simulate<three>, at_random(100000), at_random(10000000)}},
               {{"pop: the generation stays", POP_GENERATION, omitted, "come_back"},
                {"pop: head before generation", POP_GENERATION_FIRST, omitted, "come_back"},
                {"pop: next before head", POP_FENCE_NEXT, omitted, "come_back"},
                {"pop: no acquire", POP_FENCE_ACQUIRE, omitted, nullptr,
                 "the fence before the load of next is one already"},
                {"push: no release", PUSH_FENCES, omitted, "come_back"}}};
    return model_main(m, argc, argv);
}
