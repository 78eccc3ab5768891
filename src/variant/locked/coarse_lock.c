/*
 * coarse_lock.c: the one lock of Options A and B. It spins a little before it sleeps, which serves
 * short critical sections best.
 */
#include <pthread.h>

extern pthread_mutex_t coarse_lock;
pthread_mutex_t coarse_lock = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
