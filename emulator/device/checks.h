// What the compiler's checks of kernel text call: the interfaces of UBSan and ThreadSanitizer, with bodies that ask the
// emulator. Every plain load and store that is not of a variable in registers is looked at.

extern "C" {
struct TwSourceLocation {
  const char* file;
  unsigned line, column;
};

// UBSan: the first argument starts with where in the text it was.
#define TW_UNDEFINED(name, what, ...)                                                                           \
  __attribute__((visibility("hidden"), no_sanitize("thread"))) void __ubsan_handle_##name(TwSourceLocation* at, \
                                                                                          ##__VA_ARGS__) {      \
    tw_emulator->undefined(tw_emulator, what, at->file, at->line);                                              \
  }
TW_UNDEFINED(add_overflow_abort, "signed overflow of a sum", void*, void*)
TW_UNDEFINED(sub_overflow_abort, "signed overflow of a difference", void*, void*)
TW_UNDEFINED(mul_overflow_abort, "signed overflow of a product", void*, void*)
TW_UNDEFINED(negate_overflow_abort, "signed overflow of a negation", void*)
TW_UNDEFINED(divrem_overflow_abort, "a division by zero or overflow of a quotient", void*, void*)
TW_UNDEFINED(shift_out_of_bounds_abort, "a shift by a negative or too large count", void*, void*)
TW_UNDEFINED(out_of_bounds_abort, "an index outside of its array", void*)
TW_UNDEFINED(type_mismatch_v1_abort, "a null or misaligned pointer", void*)
TW_UNDEFINED(pointer_overflow_abort, "overflow of a pointer", void*, void*)
TW_UNDEFINED(load_invalid_value_abort, "a load of a bool or enum that is none of its values", void*)
TW_UNDEFINED(builtin_unreachable, "code that cannot be reached")
TW_UNDEFINED(missing_return, "a function's end without a return")
#undef TW_UNDEFINED

// ThreadSanitizer: addresses of loads and stores.
#define TW_HIDDEN __attribute__((visibility("hidden"), no_sanitize("thread")))
extern __attribute__((visibility("hidden"))) char __ehdr_start, _end;
static inline __attribute__((always_inline, no_sanitize("thread"))) void tw_plain(const void* at, unsigned bytes,
                                                                                  int kind) {
  const unsigned long long address = reinterpret_cast<unsigned long long>(at);
  if (address - tw_emulator->stack_begin < tw_emulator->stack_bytes) return;
  if (at >= &__ehdr_start && at < &_end) return;  // constants of the text
  tw_emulator->plain(tw_emulator, at, bytes, kind);
}
#define TW_PLAIN(bytes)                                                                           \
  TW_HIDDEN void __tsan_read##bytes(void* at) { tw_plain(at, bytes, kEmulatedLoad); }             \
  TW_HIDDEN void __tsan_write##bytes(void* at) { tw_plain(at, bytes, kEmulatedStore); }           \
  TW_HIDDEN void __tsan_read_write##bytes(void* at) { tw_plain(at, bytes, kEmulatedStore); }      \
  TW_HIDDEN void __tsan_unaligned_read##bytes(void* at) { tw_plain(at, bytes, kEmulatedLoad); }   \
  TW_HIDDEN void __tsan_unaligned_write##bytes(void* at) { tw_plain(at, bytes, kEmulatedStore); } \
  TW_HIDDEN void __tsan_unaligned_read_write##bytes(void* at) { tw_plain(at, bytes, kEmulatedStore); }
TW_PLAIN(1)
TW_PLAIN(2)
TW_PLAIN(4)
TW_PLAIN(8)
TW_PLAIN(16)
#undef TW_PLAIN
TW_HIDDEN void __tsan_read_range(void* at, unsigned long bytes) { tw_plain(at, bytes, kEmulatedLoad); }
TW_HIDDEN void __tsan_write_range(void* at, unsigned long bytes) { tw_plain(at, bytes, kEmulatedStore); }
TW_HIDDEN void* __tsan_memcpy(void* to, const void* from, unsigned long bytes) {
  tw_plain(from, bytes, kEmulatedLoad);
  tw_plain(to, bytes, kEmulatedStore);
  return __builtin_memcpy(to, from, bytes);
}
TW_HIDDEN void* __tsan_memmove(void* to, const void* from, unsigned long bytes) {
  tw_plain(from, bytes, kEmulatedLoad);
  tw_plain(to, bytes, kEmulatedStore);
  return __builtin_memmove(to, from, bytes);
}
TW_HIDDEN void* __tsan_memset(void* to, int value, unsigned long bytes) {
  tw_plain(to, bytes, kEmulatedStore);
  return __builtin_memset(to, value, bytes);
}
TW_HIDDEN void __tsan_init() {}
TW_HIDDEN void __tsan_func_entry(void*) {}
TW_HIDDEN void __tsan_func_exit() {}
#undef TW_HIDDEN
}
