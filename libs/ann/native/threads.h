// Names and priorities of threads.
#pragma once
#include <pthread.h>
#if defined(__linux__)
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace kith {

/** Search threads give way to the event loop, and writers to both. */
constexpr int searchNiceness = 5;
constexpr int writerNiceness = 10;

inline void nameThread(const char* name) {
#if defined(__APPLE__)
    pthread_setname_np(name);
#elif defined(__linux__)
    pthread_setname_np(pthread_self(), name);
#else
    (void)name;
#endif
}

/** On Linux a nice value belongs to a thread. Elsewhere it would slow the whole process, so nothing is done. */
inline void lowerPriority(int niceness) {
#if defined(__linux__)
    const pid_t thread = static_cast<pid_t>(syscall(SYS_gettid));
    setpriority(PRIO_PROCESS, static_cast<id_t>(thread), getpriority(PRIO_PROCESS, static_cast<id_t>(thread)) + niceness);
#else
    (void)niceness;
#endif
}

}  // namespace kith
