/*
 * processor.h, aarch64: see ../x86_64/processor.h.
 *
 * SYNCHRONIZATION: none.
 */
#ifndef HAK_PROCESSOR_H
#define HAK_PROCESSOR_H

#include <stdbool.h>
#include <stdint.h>

#define PROCESSOR_ADDRESS_BITS 48

/* The virtual counter (Arm ARM, D13.8), by 2^13 a second. */
static inline uint16_t processor_clock(void)
{
    uint64_t count, a_second;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(count));
    __asm__("mrs %0, cntfrq_el0" : "=r"(a_second));
    return (uint16_t)(count / ((a_second >> 13) + 1));
}

/* *n is less by one; whether it is below zero now. */
static inline bool processor_count_down(int32_t *n)
{
    return --*n < 0;
}

#endif
