// Steps that are no attention: pointwise maps, reductions along one axis, unfused softmax, scattered sums. Step (made per
// kernel) knows the iteration space; its order is row-major, last axis fastest.
//
//   struct Step {
//     typedef … Output, Acc;  struct Index { i32 i0, i1, …; };
//     static i64 items(args);  static Index index(args, i64 item);      // of the axes that are not folded
//     static i32 length(args); static void fold(Index&, i32 i);         // the folded axis
//     static Acc value(args, at), sink(args, at);  static Output* output(args, at);
//   };

template <class Step, i32 threads>
TW_DEVICE void loop_pointwise(const Args& args) {
  const i64 item = block_index() * threads + thread_index();
  if (item >= Step::items(args)) return;
  const typename Step::Index at = Step::index(args, item);
  store_element(Step::output(args, at), Step::value(args, at));
}

// Reductions: one warp a row; lane l takes positions l, l + 32, … and the lanes join in a fixed tree.

struct SumFold {
  template <class T>
  TW_DEVICE T start() {
    return 0;
  }
  TW_DEVICE float join(float a, float b) { return a + b; }
  TW_DEVICE double join(double a, double b) { return a + b; }
  TW_DEVICE i64 join(i64 a, i64 b) { return int_add(a, b); }
};
/// Of numbers: NaN propagates.
struct MaxFold {
  template <class T>
  TW_DEVICE T start() {
    return neg_inf();
  }
  template <class T>
  TW_DEVICE T join(T a, T b) {
    return real_max(a, b);
  }
};
struct MinFold {
  template <class T>
  TW_DEVICE T start() {
    return -neg_inf();
  }
  template <class T>
  TW_DEVICE T join(T a, T b) {
    return real_min(a, b);
  }
};
/// Of integers of a width in bits.
template <i32 bits>
struct IntMaxFold {
  template <class T>
  TW_DEVICE T start() {
    return (-9223372036854775807ll - 1) >> (64 - bits);
  }
  template <class T>
  TW_DEVICE T join(T a, T b) {
    return int_max(a, b);
  }
};
template <i32 bits>
struct IntMinFold {
  template <class T>
  TW_DEVICE T start() {
    return 9223372036854775807ll >> (64 - bits);
  }
  template <class T>
  TW_DEVICE T join(T a, T b) {
    return int_min(a, b);
  }
};
/// A maximum that overlooks NaN: of a softmax, where it comes back through the sum.
struct ReferenceFold {
  template <class T>
  TW_DEVICE T start() {
    return neg_inf();
  }
  template <class T>
  TW_DEVICE T join(T a, T b) {
    return max_number(a, b);
  }
};

/// Folds the row's values, or exp(value - reference); the same in all lanes.
template <class Fold, class Step, bool exponential>
TW_DEVICE typename Step::Acc fold_row(const Args& args, typename Step::Index at, typename Step::Acc reference) {
  typedef typename Step::Acc T;
  T folded = Fold::template start<T>();
  const i32 length = Step::length(args);
  TW_NO_UNROLL
  for (i32 i = lane_index(); i < length; i += 32) {
    Step::fold(at, i);
    T x = Step::value(args, at);
    if constexpr (exponential) x = real_exp(x - reference);
    folded = Fold::join(folded, x);
  }
  TW_NO_UNROLL
  for (i32 mask = 16; mask > 0; mask /= 2) folded = Fold::join(folded, shuffle_xor(folded, mask));
  return folded;
}

template <class Step, i32 threads>
TW_DEVICE i64 row_of_warp() {
  return block_index() * (threads / 32) + warp_index();
}

template <class Fold, class Step, i32 threads>
TW_DEVICE void loop_reduce(const Args& args, bool mean) {
  typedef typename Step::Acc T;
  const i64 row = row_of_warp<Step, threads>();
  if (row >= Step::items(args)) return;
  const typename Step::Index at = Step::index(args, row);
  T folded = fold_row<Fold, Step, false>(args, at, 0);
  if (mean) folded /= T(Step::length(args));
  if (lane_index() == 0) store_element(Step::output(args, at), folded);
}

/// The row's maximum and the sum of exp of what lies below it, sink included; the maximum of an empty row counts as 0.
template <class Step>
TW_DEVICE void softmax_terms(const Args& args, const typename Step::Index& at, typename Step::Acc& reference,
                             typename Step::Acc& total) {
  typedef typename Step::Acc T;
  reference = fold_row<ReferenceFold, Step, false>(args, at, 0);
  if (Step::kHasSink) reference = max_number(reference, Step::sink(args, at));
  if (reference == T(neg_inf())) reference = 0;
  total = fold_row<SumFold, Step, true>(args, at, reference);
  if (Step::kHasSink) total += real_exp(Step::sink(args, at) - reference);
}

template <class Step, i32 threads>
TW_DEVICE void loop_softmax(const Args& args) {
  typedef typename Step::Acc T;
  const i64 row = row_of_warp<Step, threads>();
  if (row >= Step::items(args)) return;
  typename Step::Index at = Step::index(args, row);
  T reference, total;
  softmax_terms<Step>(args, at, reference, total);
  if (total == 0) total = 1;
  const i32 length = Step::length(args);
  TW_NO_UNROLL
  for (i32 i = lane_index(); i < length; i += 32) {
    Step::fold(at, i);
    store_element(Step::output(args, at), real_exp(Step::value(args, at) - reference) / total);
  }
}

template <class Step, i32 threads>
TW_DEVICE void loop_logsumexp(const Args& args) {
  typedef typename Step::Acc T;
  const i64 row = row_of_warp<Step, threads>();
  if (row >= Step::items(args)) return;
  const typename Step::Index at = Step::index(args, row);
  T reference, total;
  softmax_terms<Step>(args, at, reference, total);
  if (lane_index() == 0)
    store_element(Step::output(args, at), total == 0 ? T(neg_inf()) : reference + real_log(total));
}

// Scattered sums: every element gets its updates in row-major order of the updates, so that its sum is always the same.
// Items are the axes that go to an axis of the output as they are: different items write different elements. The other
// axes are folded, flattened.

TW_DEVICE void add_element(float* p, float x) { *p += x; }
TW_DEVICE void add_element(double* p, double x) { *p += x; }
TW_DEVICE void add_element(F16* p, float x) { store_element(p, load_element(p) + x); }
TW_DEVICE void add_element(BF16* p, float x) { store_element(p, load_element(p) + x); }
TW_DEVICE void add_element(i64* p, i64 x) { *p = int_add(*p, x); }
TW_DEVICE void add_element(i32* p, i64 x) { *p = int_add(*p, i32(x)); }
TW_DEVICE void add_element(i8* p, i64 x) { *p = i8(*p + x); }

/// A thread adds all updates of its item.
template <class Step, i32 threads>
TW_DEVICE void loop_scatter_items(const Args& args) {
  const i64 item = block_index() * threads + thread_index();
  if (item >= Step::items(args)) return;
  typename Step::Index at = Step::index(args, item);
  const i64 updates = Step::updates(args);
  TW_NO_UNROLL
  for (i64 n = 0; n < updates; ++n) {
    Step::set_update(args, at, n);
    add_element(Step::output(args, at), Step::value(args, at));
  }
}

/// A warp adds all updates of its item: 32 are computed at a time, and each is added by the lane that owns its address,
/// in their order.
template <class Step>
TW_DEVICE void loop_scatter(const Args& args) {
  typedef typename Step::Acc T;
  typename Step::Index at = Step::index(args, block_index());
  const i64 updates = Step::updates(args);
  TW_NO_UNROLL
  for (i64 first = 0; first < updates; first += 32) {
    const i64 n = first + lane_index();
    T update = 0;
    i64 offset = -1;
    if (n < updates) {
      Step::set_update(args, at, n);
      update = Step::value(args, at);
      offset = Step::output(args, at) - Step::base(args);
    }
    TW_NO_UNROLL
    for (i32 lane = 0; lane < 32; ++lane) {
      const T x = shuffle(update, lane);
      const i64 to = shuffle(offset, lane);
      if (first + lane < updates && (to & 31) == lane_index()) add_element(Step::base(args) + to, x);
    }
  }
}
