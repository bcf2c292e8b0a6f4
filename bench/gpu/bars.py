"""The bars of the benchmark on an H200, each judged by the rows of one run."""
import re

import graphs

CUDNN = (("first mark", 0.7), ("goal", 0.9), ("claim", 1.0))  # of its speed
COPY = 0.8  # of a copy's bandwidth, decoding
PER_SCORE = {"alibi": 0.10, "window": 0.10, "documents": 0.10, "softcap": 0.25}  # over plain, per visited score
PLAIN = "full"  # neither mask nor modification, as in bench/rows_scores.cpp


def visited_of(row):
    """Scores of the tiles that ours visited, over all batches and heads, by the schedule that ran. None where it is not
    known."""
    for step in row.get("taken", []):
        tile = re.search(r"block_q (\d+), block_kv (\d+)", step["schedule"])
        if step.get("fused", True) and tile:
            visited = graphs.visited_scores(row["shape"], row["scores"], int(tile[1]), int(tile[2]))
            return visited and visited * row["shape"][0] * row["shape"][1]
    return None


def milliseconds(row):
    return row.get("impl", {}).get("ours", {}).get("ms") if "failed" not in row else None


def costs_per_score(rows):
    """kind → what a visited score of it costs beside one of the plain kernel, less one; of the rows of one shape."""
    by_name = {row["name"]: row for row in rows}
    cost = {}
    for scores in [PLAIN, "causal", *PER_SCORE]:
        row = by_name.get(f"{scores} 8k", {})
        if milliseconds(row) and visited_of(row):
            cost[scores] = milliseconds(row) / visited_of(row)
    plain = cost.pop(PLAIN, None)
    return {scores: each / plain - 1 for scores, each in cost.items()} if plain else {}


def judge(rows):
    """[{bar, row, wanted, figure, met}]; `figure` and `met` are None where that was not measured: a row that was left out or
    failed, a peer that is absent."""
    verdicts = []

    def bar(what, row, wanted, figure, met):
        verdicts.append({"bar": what, "row": row, "wanted": wanted, "figure": figure,
                         "met": None if figure is None else bool(met(figure))})

    for row in rows:
        name, of = row["name"], row.get("of", {}) if "failed" not in row else {}
        if name.startswith("llama3.1"):
            for mark, least in CUDNN:
                bar(f"of cuDNN, {mark}", name, f">= {least}", of.get("sdpa_cudnn"), lambda figure: figure >= least)
        if row.get("flex", True) and not graphs.KINDS[row["scores"]].no_flex:
            bar("of compiled flex_attention", name, "> 1", of.get("flex"), lambda figure: figure > 1)
        if name in ("decode batch 16", "decode batch 64"):
            bar("of a copy's bandwidth", name, f">= {COPY}", row.get("of_copy") if "failed" not in row else None,
                lambda figure: figure >= COPY)
    costs = costs_per_score(rows)
    for row in rows:
        most = PER_SCORE.get(row["scores"])
        if most and row["name"] == f"{row['scores']} 8k":
            bar("per visited score, over plain", row["name"], f"<= {most}", costs.get(row["scores"]),
                lambda figure: figure <= most)
    return verdicts


def lines(verdicts):
    """What a person reads: a line per bar that was missed or not measured, and the count of those met."""
    word = {True: "met", False: "MISSED", None: "not measured"}
    for each in verdicts:
        if not each["met"]:
            figure = "" if each["figure"] is None else f": {each['figure']:.2f}, and {each['wanted']} is the bar"
            yield f"  {word[each['met']]}: {each['row']}, {each['bar']}{figure}"
    count = {said: sum(each["met"] is met for each in verdicts) for met, said in word.items()}
    yield "bars: " + ", ".join(f"{number} {said}" for said, number in count.items())
