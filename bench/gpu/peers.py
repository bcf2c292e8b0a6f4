"""What our kernels are measured beside: PyTorch's SDPA over FLASH and CUDNN, compiled flex_attention, FlashAttention-3 and
FlashInfer. What this machine lacks is named, with the reason."""
import importlib

import graphs

SDPA = {"sdpa_flash": "FLASH_ATTENTION", "sdpa_cudnn": "CUDNN_ATTENTION"}
NAMES = [*SDPA, "flex", "flash_attention_3", "flashinfer"]


class Absent(Exception):
    """Why a peer does not take part in a row."""


def sdpa(torch, backend, shape, scores, q, k, v):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    _, hq, hkv, sq, sk, _, _ = shape
    if scores not in ("full", "causal"):
        raise Absent(f"SDPA has no {scores}")
    if scores == "causal" and sq != sk:
        raise Absent("SDPA's causal mask is aligned to the other corner")

    def call(keys, values, grouped):
        with sdpa_kernel(getattr(SDPBackend, backend)):
            return torch.nn.functional.scaled_dot_product_attention(q, keys, values, is_causal=scores == "causal",
                                                                    enable_gqa=grouped)
    if hq == hkv:
        return lambda: call(k, v, False)
    try:
        call(k, v, True)
        return lambda: call(k, v, True)
    except RuntimeError:  # a backend without groups gets its heads repeated beforehand, which costs it only reads
        keys, values = (t.repeat_interleave(hq // hkv, dim=1) for t in (k, v))
        return lambda: call(keys, values, False)


def padded(tables, torch):
    """Tables that the mask may ask behind its lengths, which create_block_mask rounds up to blocks of 128."""
    def pad(table):
        missing = [-size % 128 for size in table.shape]
        return torch.nn.functional.pad(table, [n for each in reversed(missing) for n in (0, each)])
    return [pad(each) for each in tables] if isinstance(tables, list) else tables


def flex(torch, shape, scores, q, k, v, extra):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
    kind, (b, hq, hkv, sq, sk, _, _) = graphs.KINDS[scores], shape
    if kind.no_flex:
        raise Absent(kind.no_flex)
    if sq != sk and not kind.any_lengths:
        raise Absent("its mask is written for equal lengths")
    torch._dynamo.reset()  # a compile per shape would run into the limit of recompilations, and fall back to eager
    tables = kind.tables(extra, shape, torch)
    keep, modify = graphs.masks_and_scores(scores, padded(tables, torch) if sq % 128 or sk % 128 else tables, torch)
    mask = create_block_mask(keep, b if "b" in kind.mask_axes else None, hq if "h" in kind.mask_axes else None, sq, sk,
                             device=q.device) if keep else None
    compiled = torch.compile(flex_attention, dynamic=False, fullgraph=True)

    def attend(**more):
        return compiled(q, k, v, score_mod=modify, block_mask=mask, scale=kind.scale, enable_gqa=hq != hkv, **more)
    if kind.sink is None:
        return attend
    sink = kind.sink(extra)
    sinks = sink[:, None] if torch.is_tensor(sink) else sink  # [H, 1] beside [B, H, Sq]

    @torch.compile(dynamic=False, fullgraph=True)
    def with_sink(out, lse):
        return (out * torch.sigmoid(lse - sinks)[..., None]).to(out.dtype)
    return lambda: with_sink(*attend(return_lse=True))


def flash_attention_3(torch, shape, scores, q, k, v):
    function = importlib.import_module("flash_attn_interface").flash_attn_func
    window = {"full": (-1, -1), "causal": (-1, -1), "window": (graphs.WINDOW, 0)}.get(scores)
    softcap = 50.0 if scores == "softcap" else 0.0
    if window is None and not softcap:
        raise Absent(f"it has no {scores}")
    rows = [t.transpose(1, 2).contiguous() for t in (q, k, v)]

    def go():
        out = function(*rows, causal=scores in ("causal", "softcap"), window_size=window or (-1, -1), softcap=softcap)
        return (out[0] if isinstance(out, tuple) else out).transpose(1, 2)
    return go


def flashinfer(torch, shape, scores, q, k, v):
    module = importlib.import_module("flashinfer")
    b, _, _, sq, _, _, _ = shape
    if b != 1:
        raise Absent("only its calls for one sequence are written here")
    if scores not in ("full", "causal"):
        raise Absent(f"its {scores} is not written here")
    queries, keys, values = (t[0].transpose(0, 1).contiguous() for t in (q, k, v))
    if sq == 1:
        return lambda: module.single_decode_with_kv_cache(queries[0], keys, values)[None, :, None]
    return lambda: module.single_prefill_with_kv_cache(queries, keys, values,
                                                       causal=scores == "causal").transpose(0, 1)[None]


def find(torch, row, q, k, v, extra):
    """(name → function without arguments that gives the output, name → why it is absent)."""
    shape, scores = row["shape"], row["scores"]
    found, absent = {}, {}
    for name in NAMES:
        try:
            if name in SDPA:
                found[name] = sdpa(torch, SDPA[name], shape, scores, q, k, v)
            elif name == "flex" and not row.get("flex", True):
                raise Absent("it is compiled for other rows")
            elif name == "flex":
                found[name] = flex(torch, shape, scores, q, k, v, extra)
            elif name == "flashinfer":
                found[name] = flashinfer(torch, shape, scores, q, k, v)
            else:
                found[name] = flash_attention_3(torch, shape, scores, q, k, v)
        except Absent as why:
            absent[name] = str(why)
        except ImportError as why:
            absent[name] = f"not installed: {why}"
        except Exception as why:  # a peer that fails costs itself, no other
            absent[name] = f"failed: {why}"[:300]
    return found, absent
