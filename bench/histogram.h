/*
 * histogram.h: latencies in log-linear buckets, in the manner of Gil Tene's HDR histogram (Debian
 * 12 has no C library of it): 32 buckets an octave, so each value is known to 3 %.
 */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_LINEAR  64u
#define HISTOGRAM_BUCKETS (HISTOGRAM_LINEAR + 32u * 40u)

struct histogram {
    uint64_t count[HISTOGRAM_BUCKETS];
    uint64_t total;
    uint64_t most;
};

static inline unsigned histogram_bucket(uint64_t value)
{
    if (value < HISTOGRAM_LINEAR)
        return (unsigned)value;
    unsigned octave = 63u - (unsigned)__builtin_clzll(value);
    unsigned bucket =
        HISTOGRAM_LINEAR + (octave - 6) * 32 + (unsigned)((value >> (octave - 5)) & 31);
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

/* The largest value that the bucket holds. */
static inline uint64_t histogram_value(unsigned bucket)
{
    if (bucket < HISTOGRAM_LINEAR)
        return bucket;
    unsigned octave = (bucket - HISTOGRAM_LINEAR) / 32 + 6;
    uint64_t step = (bucket - HISTOGRAM_LINEAR) % 32;
    return ((32 + step + 1) << (octave - 5)) - 1;
}

static inline void histogram_add(struct histogram *h, uint64_t value)
{
    h->count[histogram_bucket(value)]++;
    h->total++;
    h->most = value > h->most ? value : h->most;
}

static inline void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->count[i] += from->count[i];
    into->total += from->total;
    into->most = from->most > into->most ? from->most : into->most;
}

/* 0 <= share <= 1 */
static inline uint64_t histogram_at(const struct histogram *h, double share)
{
    uint64_t rank = (uint64_t)(share * (double)h->total), seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->count[i];
        if (seen > rank)
            return histogram_value(i) < h->most ? histogram_value(i) : h->most;
    }
    return h->most;
}

#endif
