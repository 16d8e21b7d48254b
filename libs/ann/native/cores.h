// How many cores this process may use.
#pragma once
#include <cstddef>
#include <string>

namespace kith {

/** The least of what the machine has, what the process is bound to (taskset), and what its control group may use. At least 1. */
size_t availableCores();

/**
 * The cores that the control groups allow, rounded up; 0 where they set no limit. `membership` is a file like
 * /proc/self/cgroup, `root` a folder like /sys/fs/cgroup: version 2 (cpu.max) or 1 (cpu.cfs_quota_us).
 */
size_t quotaCores(const std::string& membership, const std::string& root);

}  // namespace kith
