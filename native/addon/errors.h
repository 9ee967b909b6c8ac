// Errors of the control functions: "<object>: <strerror> (<remedy>)", with `errno` and `code`; and
// the checks of their arguments.
#pragma once

#include <napi.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>

namespace hawser {

/** What helps against `error` when the caller knows nothing better. */
inline const char* usualRemedy(int error) {
  switch (error) {
    case EPERM:
    case EACCES:
      return "needs CAP_NET_ADMIN";
    case EMFILE:
    case ENFILE:
      return "raise the limit of open files";
    case ENOMEM:
    case ENOBUFS:
      return "free memory or raise the memory limits";
    case EBADF:
      return "the descriptor is closed or of another kind";
    case EBUSY:
      return "in use by another process, or by one still closing; try again";
    case EADDRINUSE:
      return "choose another port, or stop the process that has it";
    case EADDRNOTAVAIL:
      return "give the address to an interface of this namespace first";
    case EOPNOTSUPP:
    case ENOSYS:
      return "this kernel or device does not support it";
    default:
      return "";
  }
}

/** An error of a system call. `remedy` "" takes the usual one for `error`. */
inline Napi::Error errnoError(Napi::Env env, const std::string& object, int error,
                              const std::string& remedy = "") {
  std::string message = object + ": " + std::strerror(error);
  const std::string help = remedy.empty() ? usualRemedy(error) : remedy;
  if (!help.empty()) message += " (" + help + ")";
  Napi::Error made = Napi::Error::New(env, message);
  const char* name = strerrorname_np(error);
  made.Set("errno", Napi::Number::New(env, error));
  made.Set("code", Napi::String::New(env, name == nullptr ? "EUNKNOWN" : name));
  return made;
}

[[noreturn]] inline void throwErrno(Napi::Env env, const std::string& object, int error,
                                    const std::string& remedy = "") {
  throw errnoError(env, object, error, remedy);
}

/** Argument `index` as an integer in [low, high]; throws EINVAL by name. */
inline int64_t integerArg(const Napi::CallbackInfo& info, size_t index, const char* name,
                          int64_t low, int64_t high) {
  const Napi::Value value = info[index];
  if (value.IsNumber()) {
    const double number = value.As<Napi::Number>().DoubleValue();
    if (number == std::trunc(number) && number >= static_cast<double>(low) &&
        number <= static_cast<double>(high)) {
      return static_cast<int64_t>(number);
    }
  }
  throwErrno(info.Env(), std::string("argument ") + name, EINVAL,
             "an integer from " + std::to_string(low) + " to " + std::to_string(high));
}

inline int fdArg(const Napi::CallbackInfo& info, size_t index) {
  return static_cast<int>(integerArg(info, index, "fd", 0, INT32_MAX));
}

/** Argument `index` as a string without NUL bytes (it goes to the kernel as a C string). */
inline std::string stringArg(const Napi::CallbackInfo& info, size_t index, const char* name) {
  if (!info[index].IsString()) {
    throwErrno(info.Env(), std::string("argument ") + name, EINVAL, "a string");
  }
  std::string text = info[index].As<Napi::String>().Utf8Value();
  if (text.find('\0') != std::string::npos) {
    throwErrno(info.Env(), std::string("argument ") + name, EINVAL, "without NUL bytes");
  }
  return text;
}

inline bool booleanArg(const Napi::CallbackInfo& info, size_t index, const char* name) {
  if (!info[index].IsBoolean()) {
    throwErrno(info.Env(), std::string("argument ") + name, EINVAL, "true or false");
  }
  return info[index].As<Napi::Boolean>().Value();
}

/** Argument `index` as a Uint8Array (a Buffer is one). */
inline Napi::Uint8Array bytesArg(const Napi::CallbackInfo& info, size_t index, const char* name) {
  const Napi::Value value = info[index];
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throwErrno(info.Env(), std::string("argument ") + name, EINVAL, "a Uint8Array");
  }
  return value.As<Napi::Uint8Array>();
}

/** Owns a descriptor until `release`; closes it when an error unwinds. */
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  void reset(int fd) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }
  int get() const { return fd_; }
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

}  // namespace hawser
