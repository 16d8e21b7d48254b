// Why something could not be done, and the guard that every entry into native code stands behind.
#pragma once
#include <cstdint>
#include <exception>
#include <new>
#include <string>
#include <system_error>
#include <utility>

namespace kith {

/** A code that the TypeScript side maps to a KithError (layout.h has the names), and details. */
struct Failure {
    enum Code : uint32_t {
        none = 0, notFinite = 1, zeroVector = 2, duplicateSlot = 3, resources = 4, corrupt = 5, io = 6, cancelled = 7, closed = 8,
        invalid = 9, internal = 10, outOfRange = 11
    };
    Code code = none;
    /** The row of the batch that is at fault, or the errno of an io failure. */
    uint32_t at = 0;
    std::string text;
    explicit operator bool() const { return code != none; }
};

/** Thrown by what an entry calls; the guard turns it back into its failure. */
class Refusal : public std::exception {
public:
    Refusal(Failure::Code code, std::string text) : failure_{code, 0, std::move(text)} {}
    const char* what() const noexcept override { return failure_.text.c_str(); }
    const Failure& failure() const { return failure_; }

private:
    Failure failure_;
};

/** The exception that is being handled, as a failure. Only in a catch block. */
inline Failure currentFailure() noexcept {
    // Texts below 16 characters need no memory, should that be what is missing.
    try {
        try {
            throw;
        } catch (const Refusal& refusal) {
            return refusal.failure();
        } catch (const std::bad_alloc&) {
            return {Failure::resources, 0, "no memory; free some, or give the process more"};
        } catch (const std::system_error& error) {
            const bool exhausted = error.code() == std::errc::resource_unavailable_try_again || error.code() == std::errc::not_enough_memory;
            return {exhausted ? Failure::resources : Failure::internal, 0, error.what()};
        } catch (const std::exception& error) {
            return {Failure::internal, 0, error.what()};
        } catch (...) {
            return {Failure::internal, 0, "unknown exception"};
        }
    } catch (...) {
        return {Failure::resources, 0, "no memory"};
    }
}

/** Runs `action` (which returns a Failure); whatever it throws becomes one. Nothing native may throw into Node or out of a thread. */
template <class Action> Failure guarded(Action&& action) noexcept {
    try {
        return action();
    } catch (...) {
        return currentFailure();
    }
}

}  // namespace kith
