#include "block_cipher.h"
#include <dlfcn.h>
#include <cstring>
#include "failure.h"

namespace kith {
namespace {

/** The functions of OpenSSL's libcrypto that are used: the same since 1.1.0. Node.js exports them, and ships no headers with its packages of npm. */
struct Crypto {
    void* (*newContext)() = nullptr;
    void (*freeContext)(void*) = nullptr;
    int (*control)(void*, int, int, void*) = nullptr;
    const void* (*aes256gcm)() = nullptr;
    int (*encryptInit)(void*, const void*, void*, const unsigned char*, const unsigned char*) = nullptr;
    int (*encryptUpdate)(void*, unsigned char*, int*, const unsigned char*, int) = nullptr;
    int (*encryptFinal)(void*, unsigned char*, int*) = nullptr;
    int (*decryptInit)(void*, const void*, void*, const unsigned char*, const unsigned char*) = nullptr;
    int (*decryptUpdate)(void*, unsigned char*, int*, const unsigned char*, int) = nullptr;
    int (*decryptFinal)(void*, unsigned char*, int*) = nullptr;
    bool whole = false;

    Crypto() {
        whole = find(newContext, "EVP_CIPHER_CTX_new") && find(freeContext, "EVP_CIPHER_CTX_free") && find(control, "EVP_CIPHER_CTX_ctrl") &&
                find(aes256gcm, "EVP_aes_256_gcm") && find(encryptInit, "EVP_EncryptInit_ex") && find(encryptUpdate, "EVP_EncryptUpdate") &&
                find(encryptFinal, "EVP_EncryptFinal_ex") && find(decryptInit, "EVP_DecryptInit_ex") &&
                find(decryptUpdate, "EVP_DecryptUpdate") && find(decryptFinal, "EVP_DecryptFinal_ex");
    }

private:
    template <class Function> static bool find(Function& function, const char* name) {
        void* found = dlsym(RTLD_DEFAULT, name);
        std::memcpy(&function, &found, sizeof found);
        return found != nullptr;
    }
};

const Crypto& crypto() {
    static const Crypto found;
    return found;
}

/** EVP_CTRL_GCM_GET_TAG and EVP_CTRL_GCM_SET_TAG. */
constexpr int getTag = 0x10, setTag = 0x11;

const unsigned char* bytesOf(const void* from) { return static_cast<const unsigned char*>(from); }
unsigned char* bytesOf(void* from) { return static_cast<unsigned char*>(from); }

}  // namespace

BlockCipher::BlockCipher(const FileKey& key) : key_(key) {
    if (!crypto().whole) throw Refusal(Failure::internal, "this build of Node.js gives add-ons no AES-256-GCM, so files of indexes cannot be encrypted");
    context_ = crypto().newContext();
    if (!context_) throw std::bad_alloc();
}

BlockCipher::~BlockCipher() {
    if (context_) crypto().freeContext(context_);
    // A volatile pointer, so that the compiler does not leave it out.
    volatile uint8_t* key = key_.key.data();
    for (size_t i = 0; i < key_.key.size(); ++i) key[i] = 0;
}

std::array<uint8_t, 12> BlockCipher::nonce() {
    std::array<uint8_t, 12> nonce{};
    nonce[0] = key_.number;
    for (int i = 0; i < 8; ++i) nonce[static_cast<size_t>(4 + i)] = static_cast<uint8_t>(block_ >> (8 * i));
    ++block_;
    return nonce;
}

bool BlockCipher::seal(const char* from, size_t bytes, char* to) {
    const Crypto& c = crypto();
    const auto iv = nonce();
    int length = 0, rest = 0;
    return c.encryptInit(context_, c.aes256gcm(), nullptr, key_.key.data(), iv.data()) == 1 &&
           c.encryptUpdate(context_, bytesOf(to), &length, bytesOf(from), static_cast<int>(bytes)) == 1 &&
           static_cast<size_t>(length) == bytes && c.encryptFinal(context_, bytesOf(to) + length, &rest) == 1 && rest == 0 &&
           c.control(context_, getTag, cipherTagBytes, to + bytes) == 1;
}

bool BlockCipher::open(const char* from, size_t bytes, char* to) {
    const Crypto& c = crypto();
    const auto iv = nonce();
    char tag[cipherTagBytes];
    std::memcpy(tag, from + bytes, sizeof tag);
    int length = 0, rest = 0;
    return c.decryptInit(context_, c.aes256gcm(), nullptr, key_.key.data(), iv.data()) == 1 &&
           c.control(context_, setTag, cipherTagBytes, tag) == 1 &&
           c.decryptUpdate(context_, bytesOf(to), &length, bytesOf(from), static_cast<int>(bytes)) == 1 &&
           static_cast<size_t>(length) == bytes && c.decryptFinal(context_, bytesOf(to) + length, &rest) == 1;
}

}  // namespace kith
