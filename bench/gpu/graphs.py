"""Graphs of the benchmark, as text, and the same attention for PyTorch's flex_attention and the f64 reference."""
import dataclasses
import math
import pathlib
import re

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples" / "variants"
PLAIN = ["full", "causal", "alibi", "window", "softcap", "documents"]  # kinds that attention() writes, of any heads and dims


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a kind of attention means, beside its graph. Positions of queries and keys count from the same key: lengths are
    equal, but where `any_lengths` says that the mask does not ask."""
    inputs: callable = lambda shape, torch, device: []  # tensors of the graph after q, k and v
    tables: callable = lambda extra, shape, torch: extra  # what keep and modify read, made of those
    keep: callable = None  # tables → (b, h, q, kv) → bool; None keeps everything
    modify: callable = None  # tables, torch → (s, b, h, q, kv) → s; None for the plain score
    mask_axes: str = ""  # of b and h: those that the mask differs by
    row_range: callable = None  # q, sk → [begin, end) of the keys that are kept, where they are neighbours
    sink: callable = None  # extra → joins each row's softmax as one score: a number, or one per head
    scale: float = None  # of the scores; None: 1/sqrt(Dqk)
    sigmoid: bool = False  # weights without a normaliser
    any_lengths: bool = False
    no_flex: str = ""  # why flex_attention cannot


def causal_keep(tables):
    return lambda b, h, q, kv: q >= kv


def causal_range(q, sk):
    return 0, q + 1


def random_table(*shape):
    """An input of normal values of these sizes."""
    return lambda _, torch, device: [torch.randn(*shape, device=device)]


def lengths(per_batch):
    """An input of one i64 per batch."""
    return lambda shape, torch, device: [torch.full((shape[0],), per_batch(shape), dtype=torch.int64, device=device)]


def document_numbers(shape, torch, device):
    return [(torch.arange(shape[4], device=device) // 1024).to(torch.int32).contiguous()]


def swin_inputs(shape, torch, device):
    """Windows of N tokens, four region maps; relative positions of two tokens as they lie in a row."""
    n = shape[3]
    token = torch.arange(n, device=device)
    relative = (token[:, None] - token[None, :] + n - 1).to(torch.int32)
    regions = torch.stack([token * (w + 1) // n for w in range(4)]).to(torch.int32)
    return [torch.randn(2 * n - 1, shape[1], device=device), relative.contiguous(), regions.contiguous()]


def pair_inputs(shape, torch, device):
    b, h, _, sq, sk, _, _ = shape
    valid = (torch.arange(sk, device=device) < sk - sk // 8).expand(b, sk).contiguous()
    return [torch.randn(1, h, sq, sk, device=device), valid]


def graph_distances(shape, torch, device):
    b, h, _, sq, sk, _, _ = shape
    return [torch.randn(40, h, device=device),
            torch.randint(0, 40, (b, sq, sk), device=device, dtype=torch.int32), torch.randn(b, h, sq, sk, device=device)]


def block_table(shape, torch, device):
    """A quarter of the blocks of 32 × 32, and the diagonal, so that no row is empty."""
    blocks = (shape[3] + 31) // 32
    return [(torch.rand(shape[1], blocks, blocks, device=device) < 0.25) | torch.eye(blocks, dtype=torch.bool, device=device)]


def selected_blocks(shape, torch, device):
    """Per query 16 blocks of 32 keys, its own among them: the others may lie behind it, and are then not attended."""
    b, _, hkv, sq, sk, _, _ = shape
    chosen = torch.randint(0, (sk + 31) // 32, (b, hkv, sq, 16), device=device, dtype=torch.int32)
    chosen[..., 0] = torch.arange(sq, device=device) // 32
    return [chosen]


def selection_bits(extra, shape, torch):
    """The selection as bits, which flex_attention can look up: [B, Hkv, Sq, blocks]."""
    bits = torch.zeros(*extra[0].shape[:3], (shape[4] + 31) // 32, dtype=torch.bool, device=extra[0].device)
    return [bits.scatter_(3, extra[0].long(), True)]


def token_tree(shape, torch, device):
    """A context, then Sq tokens of a binary tree; a token sees its ancestors and itself."""
    b, _, _, sq, sk, _, _ = shape
    ancestors = torch.zeros(sq, sq, dtype=torch.bool)
    for token in range(sq):
        above = token
        while above >= 0:
            ancestors[token, above] = True
            above = (above - 1) // 2 if above else -1
    return [torch.full((b,), sk - sq, dtype=torch.int64, device=device),
            ancestors.to(device).expand(b, sq, sq).contiguous()]


def t5_biases(extra, shape, torch):
    """The bias by distance, from -128 to 128: T5's buckets looked up beforehand."""
    far = torch.arange(-128, 129)
    bucket = far.abs().clamp(max=8) + sum((far.abs() >= begin).long() for begin in (12, 16, 23, 32, 46, 64, 91))
    return [extra[0][(bucket + 16 * (far > 0)).to(extra[0].device)]]


def near_pixels(shape_rows):
    """NATTEN of 7 × 7 in an image 16 pixels wide."""
    def keep(b, h, q, kv):
        x, y = (q % 16).clamp(3, 12), (q // 16).clamp(3, shape_rows - 4)
        return ((x - kv % 16).abs() <= 3) & ((y - kv // 16).abs() <= 3)
    return keep


WINDOW, NEAR = 1023, 127  # keys before the query: of the plain kinds, of the suite's
KINDS = {
    "full": Kind(row_range=lambda q, sk: (0, sk), any_lengths=True),
    "causal": Kind(keep=causal_keep, row_range=causal_range),
    "alibi": Kind(
        inputs=lambda shape, torch, device: [
            torch.tensor([2.0 ** (-8 * (h + 1) / shape[1]) for h in range(shape[1])], device=device)],
        keep=causal_keep, row_range=causal_range, modify=lambda t, torch: lambda s, b, h, q, kv: s + t[0][h] * (kv - q)),
    "window": Kind(keep=lambda t: lambda b, h, q, kv: (q >= kv) & (q - kv <= WINDOW),
                   row_range=lambda q, sk: (max(0, q - WINDOW), q + 1)),
    "softcap": Kind(keep=causal_keep, row_range=causal_range,
                    modify=lambda t, torch: lambda s, b, h, q, kv: 50 * torch.tanh(s / 50)),
    "documents": Kind(inputs=document_numbers, keep=lambda t: lambda b, h, q, kv: (q >= kv) & (t[0][q] == t[0][kv]),
                      row_range=lambda q, sk: (q // 1024 * 1024, q + 1)),
    # Of examples/variants, by file.
    "03_key_padding": Kind(
        inputs=lambda shape, torch, device: [
            torch.full((shape[0],), shape[4] - shape[4] // 4, dtype=torch.int32, device=device)],
        keep=lambda t: lambda b, h, q, kv: kv < t[0][b], mask_axes="b", any_lengths=True),
    "07_gemma_alternation": Kind(keep=lambda t: lambda b, h, q, kv: (q >= kv) & (q - kv <= NEAR),
                                 modify=lambda t, torch: lambda s, b, h, q, kv: 50 * torch.tanh(s / 50)),
    "08_gpt_oss": Kind(inputs=random_table(8), keep=lambda t: lambda b, h, q, kv: (q >= kv) & (q - kv <= NEAR),
                       sink=lambda extra: extra[0]),
    "09_softmax_plus_one": Kind(sink=lambda extra: 0.0, any_lengths=True),
    "10_t5_bias": Kind(inputs=random_table(32, 8), tables=t5_biases, scale=1.0,
                       modify=lambda t, torch: lambda s, b, h, q, kv: s + t[0][(kv - q).clamp(-128, 128) + 128, h]),
    "11_swin": Kind(inputs=swin_inputs, mask_axes="b", keep=lambda t: lambda b, h, q, kv: t[2][b % 4, q] == t[2][b % 4, kv],
                    modify=lambda t, torch: lambda s, b, h, q, kv: s + t[0][t[1][q, kv], h]),
    "12_alphafold_triangle": Kind(inputs=pair_inputs, mask_axes="b", tables=lambda extra, shape, torch: [extra[0][0], extra[1]],
                                  keep=lambda t: lambda b, h, q, kv: t[1][b, kv],
                                  modify=lambda t, torch: lambda s, b, h, q, kv: s + t[0][h, q, kv]),
    "13_graphormer": Kind(inputs=graph_distances, any_lengths=True, modify=lambda t, torch: lambda s, b, h, q, kv:
                          s + t[0][t[1][b, q, kv], h] + t[2][b, h, q, kv]),
    "15_prefix_lm": Kind(inputs=lengths(lambda shape: shape[4] // 4), mask_axes="b",
                         keep=lambda t: lambda b, h, q, kv: (q >= kv) | (kv < t[0][b])),
    "16_natten_2d": Kind(tables=lambda extra, shape, torch: shape[4] // 16, keep=near_pixels),
    "17_dilated": Kind(keep=lambda t: lambda b, h, q, kv: (q >= kv) & ((q - kv) % 4 == 0)),
    "18_block_sparse": Kind(inputs=block_table, mask_axes="h", keep=lambda t: lambda b, h, q, kv: t[0][h, q // 32, kv // 32]),
    "19_nsa_selection": Kind(inputs=selected_blocks, tables=selection_bits, mask_axes="bh",
                             keep=lambda t: lambda b, h, q, kv: (q >= kv) & t[0][b, h // 4, q, kv // 32]),
    "21_tree_verify": Kind(
        inputs=token_tree, mask_axes="b", any_lengths=True,
        keep=lambda t: lambda b, h, q, kv:
            (kv < t[0][b]) | t[1][b, q, (kv - t[0][b]).clamp(0, t[1].shape[2] - 1)]),
    "25_sigmoid": Kind(inputs=random_table(8), sigmoid=True, no_flex="its weights are a softmax's",
                       modify=lambda t, torch: lambda s, b, h, q, kv: s + t[0][h]),
    "27_streaming_llm": Kind(keep=lambda t: lambda b, h, q, kv: (q >= kv) & ((kv < 4) | (q - kv < 128))),
    "28_chunked_local": Kind(keep=lambda t: lambda b, h, q, kv: (q >= kv) & (q // 96 == kv // 96)),
}
SUITE = [name for name in KINDS if name not in PLAIN]


def attention(shape, scores, dtype="bf16"):
    """The graph of a kind. shape: (B, Hq, Hkv, Sq, Sk, Dqk, Dv); one of the suite has its file's heads and dims."""
    if scores in SUITE:
        return of_dtype((EXAMPLES / f"{scores}.attn").read_text(), dtype)
    _, hq, hkv, _, _, dqk, dv = shape
    s = f"f32[B,{hq},Sq,Sk]"
    params = [f"%q: {dtype}[B,{hq},Sq,{dqk}]", f"%k: {dtype}[B,{hkv},Sk,{dqk}]", f"%v: {dtype}[B,{hkv},Sk,{dv}]"]
    lines, k, v = [], "%k", "%v"
    if hq != hkv:
        lines += [f"%kh = repeat_heads %k, times={hq // hkv} : {dtype}[B,{hq},Sk,{dqk}]",
                  f"%vh = repeat_heads %v, times={hq // hkv} : {dtype}[B,{hq},Sk,{dv}]"]
        k, v = "%kh", "%vh"
    lines += [f"%s = matmul_nt %q, {k} : {s}", f"%a = mul %s, {1 / math.sqrt(dqk)!r} : {s}"]
    score = "%a"
    if scores == "alibi":
        params.append(f"%slope: f32[{hq}]")
        lines += [f"%t = alibi %a, slopes=%slope, align=bottom_right : {s}"]
        score = "%t"
    elif scores == "softcap":
        lines += [f"%t = softcap %a, cap=50 : {s}"]
        score = "%t"
    if scores in ("causal", "alibi", "softcap"):
        lines += [f"%e = mask_causal {score}, align=bottom_right : {s}"]
        score = "%e"
    elif scores == "window":
        lines += [f"%e = mask_window {score}, left={WINDOW}, right=0, align=bottom_right : {s}"]
        score = "%e"
    elif scores == "documents":
        params.append("%doc: i32[Sk]")
        lines += ["%i = index axis=2 : i64[1,1,Sq,1]", "%j = index axis=3 : i64[1,1,1,Sk]",
                  "%n = dim Sk-Sq : i64[]", "%pos = add %i, %n : i64[1,1,Sq,1]",
                  "%dq = load %doc[%pos] : i32[1,1,Sq,1]", "%dk = load %doc[%j] : i32[1,1,1,Sk]",
                  "%same = eq %dq, %dk : bool[1,1,Sq,Sk]", "%past = le %j, %pos : bool[1,1,Sq,Sk]",
                  "%keep = logical_and %same, %past : bool[1,1,Sq,Sk]", f"%e = select %keep, %a, -inf : {s}"]
        score = "%e"
    lines += [f"%p = softmax {score}, axis=3 : {s}", f"%c = cast %p : {dtype}[B,{hq},Sq,Sk]",
              f"%o = matmul %c, {v} : {dtype}[B,{hq},Sq,{dv}]", "return %o"]
    return (f"graph @{scores}({', '.join(params)}) -> {dtype}[B,{hq},Sq,{dv}] {{\n  " + "\n  ".join(lines) + "\n}\n")


def of_dtype(text, dtype):
    """A graph of examples/variants, which are f32, with q, k, v, the weights and the output in `dtype`."""
    text = re.sub(r"(%[qkv]:|%[kv]h\s*= repeat_heads [^:]*:|->) f32\[", rf"\1 {dtype}[", text)
    weights = re.search(r"%p\s*= \w+ %\w+.*: f32(\[.*\])", text)
    product = re.search(r"%o\s*= matmul %p, (%\w+)\s*: f32(\[.*\])", text)
    return (text[:product.start()] + f"%weights = cast %p : {dtype}{weights[1]}\n  "
            f"%o = matmul %weights, {product[1]} : {dtype}{product[2]}" + text[product.end():])


def expected_template(shape, architecture):
    """What must run for the 16-bit graphs of this file; anything else there is a fall-back, and an error."""
    _, hq, hkv, sq, _, _, _ = shape
    if sq * hq // hkv <= 64:
        return "decode"
    return "sm90_prefill" if architecture == "sm_90a" else "sm80_prefill"


def kept_scores(shape, scores, tables, torch, device):
    """How many scores the mask keeps, of all batches and heads: the work that counts."""
    kind, (b, hq, _, sq, sk, _, _) = KINDS[scores], shape
    if kind.row_range:
        return b * hq * visited_scores(shape, scores, 1, 1)
    if not kind.keep:
        return b * hq * sq * sk
    keep, keys, total = kind.keep(tables), torch.arange(sk, device=device)[None, :], 0
    batches, heads = b if "b" in kind.mask_axes else 1, hq if "h" in kind.mask_axes else 1
    for batch in range(batches):
        for head in range(heads):
            for begin in range(0, sq, 1024):
                rows = torch.arange(begin, min(begin + 1024, sq), device=device)[:, None]
                total += keep(batch, head, rows, keys).expand(len(rows), sk).sum().item()
    return total * (b // batches) * (hq // heads)


def visited_scores(shape, scores, block_q, block_kv):
    """Scores per head of the tiles of block_q × block_kv in which the mask keeps any; None where that is not known."""
    _, _, _, sq, sk, _, _ = shape
    row_range, total = KINDS[scores].row_range, 0
    if not row_range:
        return None
    for begin in range(0, sq, block_q):
        last = min(begin + block_q, sq) - 1
        first, end = row_range(begin, sk)[0], row_range(last, sk)[1]
        total += (last - begin + 1) * (min(-(-end // block_kv) * block_kv, sk) - first // block_kv * block_kv)
    return total


def masks_and_scores(scores, tables, torch):
    """keep(b, h, q, kv) or None, score(s, b, h, q, kv) or None."""
    kind = KINDS[scores]
    return kind.keep and kind.keep(tables), kind.modify and kind.modify(tables, torch)
