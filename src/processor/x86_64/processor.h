/*
 * processor.h, x86-64: what differs by processor. CMake chooses one of the folders here.
 *
 * SYNCHRONIZATION: none.
 */
#ifndef HAK_PROCESSOR_H
#define HAK_PROCESSOR_H

#include <stdbool.h>
#include <stdint.h>

#define PROCESSOR_ADDRESS_BITS 47 /* of addresses that programs are given */

/* A clock that is read without a call, so that nobody can have it call malloc: it advances each 30
 * to 150 us, and goes round. Here each 2^18 cycles of the time stamp counter. */
static inline uint16_t processor_clock(void)
{
    return (uint16_t)(__builtin_ia32_rdtsc() >> 18);
}

/* *n is less by one; whether it is below zero now. In C, gcc computes the address apart, for two
 * instructions of which one could do both. */
static inline bool processor_count_down(int32_t *n)
{
    bool below;
    __asm__("subl $1, %0" : "+m"(*n), "=@ccs"(below));
    return below;
}

#endif
