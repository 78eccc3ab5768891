/*
 * processor.h, any other processor: see ../x86_64/processor.h.
 *
 * SYNCHRONIZATION: none.
 */
#ifndef HAK_PROCESSOR_H
#define HAK_PROCESSOR_H

#include <stdbool.h>
#include <stdint.h>

#define PROCESSOR_ADDRESS_BITS 48

/* It stands still: whatever happens, it is at once. */
static inline uint16_t processor_clock(void)
{
    return 0;
}

/* *n is less by one; whether it is below zero now. */
static inline bool processor_count_down(int32_t *n)
{
    return --*n < 0;
}

#endif
