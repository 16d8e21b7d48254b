// One call from JavaScript: its arguments, read with their types checked, and the guard around it.
#pragma once
#include <node_api.h>
#include <memory>
#include <string>
#include <cstring>
#include "block_cipher.h"
#include "channel.h"
#include "failure.h"

namespace kith {

/** The elements of a typed array. They belong to JavaScript: good until the call returns, and not after. */
template <class Element> struct Elements {
    Element* data = nullptr;
    size_t count = 0;
};

template <class Element> struct TypedArrayOf;
template <> struct TypedArrayOf<uint8_t> { static constexpr napi_typedarray_type type = napi_uint8_array; };
template <> struct TypedArrayOf<uint32_t> { static constexpr napi_typedarray_type type = napi_uint32_array; };
template <> struct TypedArrayOf<uint64_t> { static constexpr napi_typedarray_type type = napi_biguint64_array; };
template <> struct TypedArrayOf<float> { static constexpr napi_typedarray_type type = napi_float32_array; };
template <> struct TypedArrayOf<double> { static constexpr napi_typedarray_type type = napi_float64_array; };

class Call {
public:
    Call(napi_env env, napi_callback_info info) : env_(env) {
        size_t count = most;
        napi_get_cb_info(env, info, &count, arguments_, nullptr, nullptr);
        void* data = nullptr;
        napi_get_instance_data(env, &data);
        channel_ = static_cast<Channel*>(data);
    }
    napi_env env() const { return env_; }
    Channel& channel() const {
        if (!channel_) throw Refusal(Failure::invalid, "the channel is not open");
        return *channel_;
    }
    napi_value value(size_t i) const { return arguments_[i]; }
    uint32_t number(size_t i) const {
        uint32_t value = 0;
        if (napi_get_value_uint32(env_, arguments_[i], &value) != napi_ok) wrong(i, "a number");
        return value;
    }
    double float64(size_t i) const {
        double value = 0;
        if (napi_get_value_double(env_, arguments_[i], &value) != napi_ok) wrong(i, "a number");
        return value;
    }
    bool flag(size_t i) const {
        bool value = false;
        if (napi_get_value_bool(env_, arguments_[i], &value) != napi_ok) wrong(i, "true or false");
        return value;
    }
    std::string text(size_t i) const {
        size_t length = 0;
        if (napi_get_value_string_utf8(env_, arguments_[i], nullptr, 0, &length) != napi_ok) wrong(i, "a string");
        std::string text(length, '\0');
        napi_get_value_string_utf8(env_, arguments_[i], text.data(), length + 1, &length);
        return text;
    }
    template <class Element> Elements<Element> array(size_t i, size_t least = 0) const { return arrayOf<Element>(arguments_[i], i, least); }
    /** `least`: elements that it must have. `i` is for the message. */
    template <class Element> Elements<Element> arrayOf(napi_value value, size_t i, size_t least = 0) const {
        void* data = nullptr;
        size_t count = 0;
        napi_typedarray_type type;
        if (napi_get_typedarray_info(env_, value, &type, &count, &data, nullptr, nullptr) != napi_ok ||
            type != TypedArrayOf<Element>::type || count < least)
            wrong(i, "a typed array of the right kind and length");
        return {static_cast<Element*>(data), count};
    }
    /** Of files that are encrypted: 32 bytes; none where they are not. */
    FileKey fileKey(size_t i) const { return fileKeyOf(arguments_[i], i); }
    FileKey fileKeyOf(napi_value value, size_t i) const {
        const auto bytes = arrayOf<uint8_t>(value, i);
        FileKey key;
        if (bytes.count == 0) return key;
        if (bytes.count != key.key.size()) wrong(i, "a key of 32 bytes");
        key.given = true;
        std::memcpy(key.key.data(), bytes.data, bytes.count);
        return key;
    }
    std::shared_ptr<Index> index(size_t i) const {
        std::shared_ptr<Index> index = channel().index(number(i));
        if (!index) throw Refusal(Failure::closed, "the index is closed");
        return index;
    }

    /** An object, whose properties are read by name. */
    class Object {
    public:
        Object(napi_env env, napi_value value) : env_(env), value_(value) {}
        double number(const char* name) const {
            double number = 0;
            if (napi_get_value_double(env_, property(name), &number) != napi_ok) wrong(name);
            return number;
        }
        bool flag(const char* name) const {
            bool flag = false;
            if (napi_get_value_bool(env_, property(name), &flag) != napi_ok) wrong(name);
            return flag;
        }
        std::string text(const char* name) const {
            const napi_value value = property(name);
            size_t length = 0;
            if (napi_get_value_string_utf8(env_, value, nullptr, 0, &length) != napi_ok) wrong(name);
            std::string text(length, '\0');
            napi_get_value_string_utf8(env_, value, text.data(), length + 1, &length);
            return text;
        }

        napi_value value(const char* name) const { return property(name); }

    private:
        [[noreturn]] static void wrong(const char* name) {
            throw Refusal(Failure::invalid, std::string("an argument lacks ") + name + ", or has it in another type");
        }
        napi_value property(const char* name) const {
            napi_value value = nullptr;
            if (napi_get_named_property(env_, value_, name, &value) != napi_ok) wrong(name);
            return value;
        }
        napi_env env_;
        napi_value value_;
    };
    Object object(size_t i) const { return {env_, arguments_[i]}; }
    uint32_t length(size_t i) const {
        uint32_t length = 0;
        if (napi_get_array_length(env_, arguments_[i], &length) != napi_ok) wrong(i, "an array");
        return length;
    }
    Object element(size_t i, uint32_t at) const {
        napi_value value = nullptr;
        if (napi_get_element(env_, arguments_[i], at, &value) != napi_ok) wrong(i, "an array");
        return {env_, value};
    }

    napi_value undefined() const {
        napi_value value;
        napi_get_undefined(env_, &value);
        return value;
    }
    napi_value boolean(bool flag) const {
        napi_value value;
        napi_get_boolean(env_, flag, &value);
        return value;
    }
    napi_value number64(double number) const {
        napi_value value;
        napi_create_double(env_, number, &value);
        return value;
    }
    napi_value string(const std::string& text) const {
        napi_value value;
        napi_create_string_utf8(env_, text.data(), text.size(), &value);
        return value;
    }

private:
    [[noreturn]] static void wrong(size_t i, const char* wanted) {
        throw Refusal(Failure::invalid, "argument " + std::to_string(i) + " is not " + wanted);
    }
    static constexpr size_t most = 10;
    napi_env env_;
    Channel* channel_ = nullptr;
    napi_value arguments_[most] = {};
};

/** Throws a failure as a JavaScript error whose code is the failure's number. */
void throwFailure(napi_env env, const Failure& failure);

/** What Node calls: `function`, with everything that it throws turned into a JavaScript error. */
template <napi_value (*function)(Call&)> napi_value entry(napi_env env, napi_callback_info info) {
    try {
        Call call(env, info);
        return function(call);
    } catch (...) {
        throwFailure(env, currentFailure());
        return nullptr;
    }
}

struct NamedFunction {
    const char* name;
    napi_callback function;
};

/** Gives an object functions of these names. */
template <size_t count> void defineFunctions(napi_env env, napi_value object, const NamedFunction (&functions)[count]) {
    for (const NamedFunction& each : functions) {
        napi_value value;
        napi_create_function(env, each.name, NAPI_AUTO_LENGTH, each.function, nullptr, &value);
        napi_set_named_property(env, object, each.name, value);
    }
}

}  // namespace kith
