#include "cores.h"
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <thread>
#if defined(__linux__)
#include <sched.h>
#endif

namespace kith {
namespace {

bool readFirst(const std::string& path, std::string& word, std::string& next) {
    std::ifstream file(path);
    word.clear();
    next.clear();
    file >> word >> next;
    return !word.empty();
}

/** Quota over period, both in microseconds. 0 for "max", "-1" and whatever is no number. */
double quotaOf(const std::string& quota, const std::string& period) {
    const double used = std::atof(quota.c_str()), of = std::atof(period.c_str());
    return used > 0 && of > 0 ? used / of : 0;
}

/** The least quota of a group and those above it: `limits` reads that of one folder, 0 for none. */
template <class Limit> double leastQuota(const std::string& root, std::string path, Limit&& limit) {
    double least = 0;
    for (;;) {
        const double quota = limit(root + path);
        if (quota > 0 && (least == 0 || quota < least)) least = quota;
        const size_t slash = path.find_last_of('/');
        if (path.empty() || slash == std::string::npos) return least;
        path.resize(slash);
    }
}

double quotaOfFolder2(const std::string& folder) {
    std::string quota, period;
    return readFirst(folder + "/cpu.max", quota, period) ? quotaOf(quota, period) : 0;
}

double quotaOfFolder1(const std::string& folder) {
    std::string quota, period, ignored;
    if (!readFirst(folder + "/cpu.cfs_quota_us", quota, ignored) || !readFirst(folder + "/cpu.cfs_period_us", period, ignored)) return 0;
    return quotaOf(quota, period);
}

bool listHas(const std::string& list, const std::string& word) {
    return ("," + list + ",").find("," + word + ",") != std::string::npos;
}

}  // namespace

size_t quotaCores(const std::string& membership, const std::string& root) {
    double least = 0;
    std::ifstream file(membership);
    // Lines of "number:controllers:path"; version 2 has number 0 and no controllers.
    for (std::string line; std::getline(file, line);) {
        const size_t first = line.find(':'), second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        std::string path = line.substr(second + 1);
        if (path == "/") path.clear();
        double quota = 0;
        if (controllers.empty()) {
            quota = leastQuota(root, path, quotaOfFolder2);
        } else if (listHas(controllers, "cpu")) {
            // Inside a container the path is that of the host, and the group is mounted at the root of the controller.
            for (const std::string& mount : {controllers, std::string("cpu"), std::string("cpu,cpuacct")}) {
                quota = leastQuota(root + "/" + mount, path, quotaOfFolder1);
                if (quota > 0) break;
            }
        }
        if (quota > 0 && (least == 0 || quota < least)) least = quota;
    }
    return static_cast<size_t>(std::ceil(least));
}

size_t availableCores() {
    size_t cores = std::max(1u, std::thread::hardware_concurrency());
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) cores = static_cast<size_t>(std::max(1, CPU_COUNT(&set)));
    const size_t quota = quotaCores("/proc/self/cgroup", "/sys/fs/cgroup");
    if (quota > 0) cores = std::min(cores, quota);
#endif
    return cores;
}

}  // namespace kith
