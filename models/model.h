/*
 * model.h: what the models share: C11's names over Relacy, the sites where a mutant changes something, and
 * main.
 *
 * Why: the stress tests see the orders that this processor happens to produce; Relacy sees those that C11
 * allows, and says of a failure which steps led to it. A model copies the functions of src/ that make up
 * one protocol, with their names, fields and orders, at a size of two or three threads and one or two
 * objects. Fields that one thread owns are `plain`: Relacy reports a data race on them. What is waited
 * for, or counted for statistics, or sized for speed is left out.
 *
 * How: each scenario is searched to exhaustion (`full`), to exhaustion within a number of preemptions
 * (`bound`), or at random. Each mutant weakens one order or omits one step, and must be found in the
 * scenario that its line names; one that none can find says why. How long: seconds of CPU; --thorough
 * raises the bounds, to minutes. Searches are deterministic: a failure has no seed but its iteration.
 *
 * What Relacy leaves out. In the two exhaustive searches a load sees the newest value or the one before
 * it, at random two before it. No load sees a value that is written later (load buffering). A seq_cst
 * fence synchronizes with later ones, which is stronger than C11; a seq_cst load or store is ordered
 * only against those of the same atomic and by fences, which is weaker. An RMW is no fence, as in C11.
 */
#ifndef MODELS_MODEL_H
#define MODELS_MODEL_H

#include <argp.h>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <iostream>
#include <string>
#include <vector>

#include <relacy/relacy.hpp>
#undef new
#undef delete
#undef malloc
#undef calloc
#undef realloc
#undef free
#undef assert
#undef errno
#undef memory_order_relaxed
#undef memory_order_consume
#undef memory_order_acquire
#undef memory_order_release
#undef memory_order_acq_rel
#undef memory_order_seq_cst

#include "sites.h"

/* ---- C11's names ---- */

constexpr rl::memory_order memory_order_relaxed = rl::mo_relaxed;
constexpr rl::memory_order memory_order_acquire = rl::mo_acquire;
constexpr rl::memory_order memory_order_release = rl::mo_release;
constexpr rl::memory_order memory_order_acq_rel = rl::mo_acq_rel;
constexpr rl::memory_order memory_order_seq_cst = rl::mo_seq_cst;

using rl::atomic;

/* Macros, so that Relacy's history names the model's lines. */
#define atomic_load_explicit(p, order)         ((p)->load((order), $))
#define atomic_store_explicit(p, v, order)     ((p)->store((v), (order), $))
#define atomic_exchange_explicit(p, v, order)  ((p)->exchange((v), (order), $))
#define atomic_fetch_or_explicit(p, v, order)  ((p)->fetch_or((v), (order), $))
#define atomic_fetch_and_explicit(p, v, order) ((p)->fetch_and((v), (order), $))
#define atomic_fetch_add_explicit(p, v, order) ((p)->fetch_add((v), (order), $))
#define atomic_fetch_sub_explicit(p, v, order) ((p)->fetch_sub((v), (order), $))
#define atomic_compare_exchange_strong_explicit(p, e, v, order, failure)                           \
    ((p)->compare_exchange_strong(*(e), (v), (order), $, (failure), $))
/* A spurious failure is a turn of a loop that changes nothing: not modelled. */
#define atomic_compare_exchange_weak_explicit atomic_compare_exchange_strong_explicit

#define MUST(condition) RL_ASSERT(condition)

/* A field without atomicity, of whoever owns it: Relacy reports races on it. */
template <typename T> class plain
{
    rl::var<T> var;

  public:
    operator T() const
    {
        return var($).load();
    }
    plain &operator=(T v)
    {
        var($).store(v);
        return *this;
    }
    plain &operator=(const plain &other)
    {
        return *this = T(other);
    }
    T operator->() const
    {
        return T(*this);
    }
};

/* A field that is read while somebody may write it, without an order of its own. */
template <typename T> class racy
{
    atomic<T> value;

  public:
    operator T() const
    {
        return value.load(rl::mo_relaxed, $);
    }
    racy &operator=(T v)
    {
        value.store(v, rl::mo_relaxed, $);
        return *this;
    }
};

/* What happens together with the step before it: accesses whose moment decides nothing that is checked,
 * so that searches need not try others. Their values are still those that C11 allows. */
class with_last_step
{
  public:
    with_last_step()
    {
        rl::ctx().disable_preemption();
    }
    ~with_last_step()
    {
        rl::ctx().enable_preemption();
    }
};

/* What is one instruction, in several of Relacy's steps. */
class one_step
{
    struct start {
        start()
        {
            rl::ctx().sched();
        }
    } start;
    with_last_step rest;
};

/* ---- mutants ---- */

struct mutant {
    const char *name;
    enum site site;
    rl::memory_order weak; /* of a site that is an order */
    const char *scenario;  /* which finds it; nullptr: none can */
    const char *why_not = "";
};

/* For sites that are steps. */
constexpr rl::memory_order omitted = rl::mo_relaxed;

inline const mutant *chosen; /* constant during a search */

/* The order of a line in src/, or what the mutant makes of it. */
inline rl::memory_order order(enum site site, rl::memory_order real)
{
    return chosen != nullptr && chosen->site == site ? chosen->weak : real;
}

/* False: the mutant leaves this step out. */
inline bool does(enum site site)
{
    return chosen == nullptr || chosen->site != site;
}

inline void fence(enum site site, rl::memory_order real)
{
    if (does(site))
        rl::atomic_thread_fence(real, $);
}

/* ---- searches ---- */

struct search {
    rl::scheduler_type_e type;
    unsigned amount; /* preemptions, or iterations */
};

constexpr search full()
{
    return {rl::sched_full, 0};
}

constexpr search bound(unsigned preemptions)
{
    return {rl::sched_bound, preemptions};
}

constexpr search at_random(unsigned iterations)
{
    return {rl::sched_random, iterations};
}

/* A scenario: `base` has the protocol and check(), of what holds at rest; `derived` start() and thread(). */
template <typename derived, typename base, rl::thread_id_t threads>
struct suite : rl::test_suite<derived, threads>, base {
    void before()
    {
        static_cast<derived *>(this)->start();
    }
    void after()
    {
        static_cast<derived *>(this)->check();
    }
};

struct scenario {
    const char *name;
    rl::simulate_f run;
    search quick, thorough;
};

struct model {
    const char *name;
    std::vector<scenario> scenarios;
    std::vector<mutant> mutants;
};

inline struct {
    bool mutants, anywhere, thorough, trace;
    const char *only;
} options;

inline std::string describe(search s)
{
    if (s.type == rl::sched_full)
        return "all interleavings";
    std::string amount = std::to_string(s.amount);
    return s.type == rl::sched_bound ? "all with at most " + amount + " preemptions"
                                     : amount + " at random";
}

inline rl::test_params params_of(search s, std::ostream *out)
{
    static std::ostream nowhere(nullptr);
    rl::test_params params;
    params.search_type = s.type;
    params.iteration_count = s.type == rl::sched_random ? s.amount : 0;
    params.context_bound = s.amount;
    params.progress_stream = &nowhere;
    params.output_stream = out != nullptr ? out : &nowhere;
    return params;
}

inline double cpu_seconds()
{
    return (double)clock() / CLOCKS_PER_SEC;
}

/* True if the scenario holds. The iteration of a failure is what repeats it: searches are deterministic. */
inline bool search_one(const scenario &s, const char *of, bool must_hold)
{
    search how = options.thorough && must_hold ? s.thorough : s.quick;
    static std::ostream nowhere(nullptr);
    rl::test_params params = params_of(how, options.trace ? &std::cout : &nowhere);
    double start = cpu_seconds();
    bool holds = s.run(params);
    if (!holds && must_hold && !options.trace) {
        rl::test_params again = params_of(how, &std::cout);
        s.run(again);
    }
    std::printf("%-6s %s: %s: %s after %llu of %s, %.1f s\n", holds == must_hold ? "ok" : "FAILED",
                of, s.name, rl::test_result_str(params.test_result),
                (unsigned long long)params.stop_iteration, describe(how).c_str(),
                cpu_seconds() - start);
    std::fflush(stdout);
    return holds;
}

inline bool is_asked_for(const char *name)
{
    return options.only == nullptr || std::strcmp(options.only, name) == 0;
}

inline int run_scenarios(const model &m)
{
    int failed = 0;
    for (const scenario &s : m.scenarios)
        failed += is_asked_for(s.name) && !search_one(s, m.name, true);
    return failed;
}

/* One that changes nothing that a model can see must hold in all scenarios, or its reason is wrong. */
inline int run_equivalent(const model &m, const mutant &mutant)
{
    int wrong = 0;
    std::printf("same   %s: %s\n", mutant.name, mutant.why_not);
    for (const scenario &s : m.scenarios)
        wrong += options.thorough && !search_one(s, mutant.name, true);
    return wrong;
}

inline int run_mutant(const model &m, const mutant &mutant)
{
    int missed = 0;
    chosen = &mutant;
    if (mutant.scenario == nullptr)
        missed = run_equivalent(m, mutant);
    for (const scenario &s : m.scenarios)
        if (options.anywhere ||
            (mutant.scenario != nullptr && std::strcmp(s.name, mutant.scenario) == 0))
            missed += search_one(s, mutant.name, false);
    chosen = nullptr;
    return missed;
}

inline int run_mutants(const model &m)
{
    int missed = 0;
    for (const mutant &mutant : m.mutants)
        if (is_asked_for(mutant.name))
            missed += run_mutant(m, mutant);
    return missed;
}

inline error_t parse_option(int key, char *argument, argp_state *)
{
    switch (key) {
    case 'm':
        options.mutants = true;
        return 0;
    case 'a':
        options.anywhere = true;
        return 0;
    case 't':
        options.thorough = true;
        return 0;
    case 'v':
        options.trace = true;
        return 0;
    case 'o':
        options.only = argument;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

inline int model_main(const model &m, int argc, char **argv)
{
    static const argp_option known[] = {
        {"mutants", 'm', nullptr, 0, "run the mutants: each must be found", 0},
        {"anywhere", 'a', nullptr, 0, "look for each mutant in every scenario", 0},
        {"thorough", 't', nullptr, 0, "search with the higher bounds (minutes)", 0},
        {"trace", 'v', nullptr, 0, "print the interleaving of each failure", 0},
        {"only", 'o', "NAME", 0, "one scenario, or one mutant", 0},
        {}};
    static const argp parser = {
        known,   parse_option, nullptr, "Searches a model of hakmem's protocols.",
        nullptr, nullptr,      nullptr};
    argp_parse(&parser, argc, argv, 0, nullptr, nullptr);
    int failed = options.mutants ? run_mutants(m) : run_scenarios(m);
    if (failed != 0)
        std::printf("%s: %d %s\n", m.name, failed,
                    options.mutants ? "mutants were not found" : "scenarios do not hold");
    return failed != 0;
}

#endif
