"""Graphs of the benchmark, as text, and the same scores for PyTorch's flex_attention."""
import math


def attention(shape, scores, dtype="bf16"):
    """shape: (B, Hq, Hkv, Sq, Sk, Dqk, Dv). scores: full, causal, alibi, window, softcap or documents."""
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
        lines += [f"%e = mask_window {score}, left=1023, right=0, align=bottom_right : {s}"]
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


def extra_inputs(shape, scores, torch, device):
    """Tensors after q, k and v."""
    _, hq, _, _, sk, _, _ = shape
    if scores == "alibi":
        return [torch.tensor([2.0 ** (-8 * (h + 1) / hq) for h in range(hq)], device=device)]
    if scores == "documents":
        return [(torch.arange(sk, device=device) // 1024).to(torch.int32).contiguous()]
    return []


def expected_template(shape, architecture):
    """What must run for the 16-bit graphs of this file; anything else there is a fall-back, and an error."""
    _, hq, hkv, sq, _, _, _ = shape
    if sq * hq // hkv <= 64:
        return "decode"
    return "sm90_prefill" if architecture == "sm_90a" else "sm80_prefill"


def kept(scores, extra):
    """keep(b, h, q, kv) for equal lengths, None for everything; as flex_attention and the f64 reference want it."""
    if scores in ("causal", "alibi", "softcap"):
        return lambda b, h, q, kv: q >= kv
    if scores == "window":
        return lambda b, h, q, kv: (q >= kv) & (q - kv <= 1023)
    if scores == "documents":
        doc = extra[0]
        return lambda b, h, q, kv: (q >= kv) & (doc[q] == doc[kv])
    return None


def modified(scores, extra, torch):
    """score(s, b, h, q, kv), None for the plain score."""
    if scores == "alibi":
        slope = extra[0]
        return lambda s, b, h, q, kv: s + slope[h] * (kv - q)
    if scores == "softcap":
        return lambda s, b, h, q, kv: 50 * torch.tanh(s / 50)
    return None


def visited(shape, scores):
    """Scores that are kept, per (b, h)."""
    _, _, _, sq, sk, _, _ = shape
    if scores == "full":
        return sq * sk
    if scores == "window":
        return sum(min(i + 1, 1024) for i in range(sq))
    if scores == "documents":
        return sum(i % 1024 + 1 for i in range(sq))
    return sq * (sq + 1) // 2 + sq * (sk - sq)
